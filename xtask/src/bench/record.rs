//! Comparisons as JSON, one object a line.

use serde::Serialize;

use super::{
    comparisons::Comparison,
    measure::{Measured, Times},
    statistics::{Summary, speedups},
};

/// A case and a peer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    case: &'static str,
    model: String,
    backend: &'static str,
    precision: String,
    batch: usize,
    peer: String,
    /// The subject's median.
    ours: f64,
    /// The peer's.
    theirs: f64,
    /// What both are in.
    unit: &'static str,
    /// Median over the rounds, more than 1 where ours is better.
    ratio: f64,
}

impl Record {
    /// The record of a comparison, if both sides took part.
    pub fn of(comparison: &Comparison, measured: &Measured) -> Option<Self> {
        let Measured { model, case, size, times, .. } = measured;
        let (subject, peer) = pair(comparison, times)?;
        let median = |values: &[f64]| Some(rounded(case.in_unit(Summary::of(values)?.median, *size)));
        Some(Self {
            case: case.name(),
            model: model.clone(),
            backend: comparison.subject.backend(),
            precision: comparison.subject.precision().to_string(),
            batch: case.batch(*size),
            peer: comparison.peer.to_string(),
            ours: median(subject)?,
            theirs: median(peer)?,
            unit: case.unit(),
            ratio: rounded(Summary::of(&speedups(subject, peer))?.median),
        })
    }
}

/// What is beyond this is noise, whatever the unit.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// The measurements of a comparison's subject and peer, if both took part.
pub fn pair<'a>(comparison: &Comparison, times: &'a Times) -> Option<(&'a [f64], &'a [f64])> {
    let find =
        |entrant| times.iter().find(|(found, _)| *found == entrant).map(|(_, values)| values.as_slice());
    Some((find(comparison.subject)?, find(comparison.peer)?))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{case::Case, comparisons},
        *,
    };

    #[test]
    fn a_record_has_these_keys_and_no_others() {
        let list = comparisons::all();
        let find = |name: &str| list.iter().find(|comparison| comparison.full_name() == name).unwrap();
        let jpeg = find("jpeg/candle-onnxruntime");
        let times = vec![(jpeg.subject, vec![1.28, 1.28, 2.56]), (jpeg.peer, vec![2.56, 2.56, 5.12])];
        let measured =
            Measured { model: "ViT-B-32".into(), case: Case::Jpeg, size: 128, operations: None, times };
        let line = serde_json::to_string(&Record::of(jpeg, &measured).unwrap()).unwrap();
        let expected = concat!(
            r#"{"case":"jpeg","model":"ViT-B-32","backend":"candle","precision":"f32","batch":32,"#,
            r#""peer":"onnxruntime f32","ours":10.0,"theirs":20.0,"unit":"ms/image","ratio":2.0}"#
        );
        assert_eq!(line, expected);
        assert_eq!(Record::of(find("image/candle-pytorch"), &measured), None, "PyTorch didn't take part");
    }
}
