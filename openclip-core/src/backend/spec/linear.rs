//! Linear layers.

use std::{borrow::Cow, fmt, ops::Range};

use super::Activation;
use crate::{HostTensor, Result, Weights, weights::ChannelAxis};

/// How a linear layer's weight is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightLayout {
    /// `[out, in]`, as `torch.nn.Linear` keeps it.
    OutIn,
    /// `[in, out]`, as the projections of CLIP are kept (`x @ proj`).
    InOut,
}

/// A parameter by name below the layer's scope, or some outputs of one that several layers are packed into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamRows {
    /// The parameter's name.
    pub name: String,
    /// The outputs that belong to the layer, and how many are stored; all of them where absent.
    pub rows: Option<(Range<usize>, usize)>,
}

/// `name`, or `name[first..end]` where only some outputs are meant.
impl fmt::Display for ParamRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.rows.as_ref().map_or(Ok(()), |(rows, _)| write!(f, "[{}..{}]", rows.start, rows.end))
    }
}

impl ParamRows {
    fn all(name: &str) -> Self {
        Self { name: name.to_owned(), rows: None }
    }

    /// Number of outputs as stored, for a layer of `out_features` outputs.
    fn stored(&self, out_features: usize) -> usize {
        self.rows.as_ref().map_or(out_features, |(_, total)| *total)
    }

    /// The layer's own values of `values`, which holds `width` values for each stored output.
    fn select<'a>(&self, values: Cow<'a, [f32]>, width: usize) -> Cow<'a, [f32]> {
        let Some((rows, _)) = &self.rows else { return values };
        let own = rows.start * width..rows.end * width;
        match values {
            Cow::Borrowed(values) => Cow::Borrowed(values.get(own).unwrap_or_default()),
            Cow::Owned(values) => Cow::Owned(values.get(own).unwrap_or_default().to_vec()),
        }
    }
}

/// A linear layer. Its outputs may be stored in several parameters, which are stacked when they are read: queries, keys
/// and values that a checkpoint keeps apart are one product all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearSpec {
    /// Features of the input.
    pub in_features: usize,
    /// Features of the output.
    pub out_features: usize,
    /// The weight: one parameter, or several with equally many outputs each.
    pub weight: Vec<ParamRows>,
    /// The bias, part by part; a part that is absent is zero. Empty where there is no bias.
    pub bias: Vec<Option<ParamRows>>,
    /// How the weight is stored. Several parts are stored as [`WeightLayout::OutIn`].
    pub layout: WeightLayout,
    /// A parameter `[out]` that the outputs are multiplied by (LayerScale, Touvron et al., 2021), which becomes part of
    /// weight and bias when they are read.
    pub scale: Option<String>,
    /// Applied to the output.
    pub activation: Option<Activation>,
    /// Whether the weight may be quantised in `int8`. The last layer of a tower stays in floats: its error reaches the
    /// embedding undiminished, and it costs next to nothing.
    pub quantize: bool,
}

impl LinearSpec {
    /// A layer with `weight [out, in]` and `bias [out]`.
    pub fn new(in_features: usize, out_features: usize) -> Self {
        Self {
            in_features,
            out_features,
            weight: vec![ParamRows::all("weight")],
            bias: vec![Some(ParamRows::all("bias"))],
            layout: WeightLayout::OutIn,
            scale: None,
            activation: None,
            quantize: true,
        }
    }

    /// A projection `x @ name` into the joint space without bias, `name [in, out]`.
    pub fn projection(name: &str, in_features: usize, out_features: usize) -> Self {
        Self { layout: WeightLayout::InOut, ..Self::new(in_features, out_features) }
            .named(name, None)
            .unquantized()
    }

    /// In floats at `int8` too.
    pub fn unquantized(mut self) -> Self {
        self.quantize = false;
        self
    }

    /// With other names for the weight and the bias.
    pub fn named(self, weight: &str, bias: Option<&str>) -> Self {
        match bias {
            Some(_) => self.stacked(&[weight], &[bias]),
            None => self.stacked(&[weight], &[]),
        }
    }

    /// The outputs of several parameters, one after another. A bias that is absent is zero.
    pub fn stacked(mut self, weights: &[&str], biases: &[Option<&str>]) -> Self {
        self.weight = weights.iter().map(|name| ParamRows::all(name)).collect();
        self.bias = biases.iter().map(|name| name.map(ParamRows::all)).collect();
        self
    }

    /// With the names given so far below `scope`, which may be empty.
    pub fn within(mut self, scope: &str) -> Self {
        if scope.is_empty() {
            return self;
        }
        for part in self.weight.iter_mut().chain(self.bias.iter_mut().flatten()) {
            part.name = format!("{scope}.{}", part.name);
        }
        self
    }

    /// Without a bias where `biased` is false.
    pub fn biased(mut self, biased: bool) -> Self {
        if !biased {
            self.bias.clear();
        }
        self
    }

    /// The weight is these outputs of one that is stored with `total` outputs, `[total, in]`.
    pub fn weight_rows(mut self, rows: Range<usize>, total: usize) -> Self {
        self.weight.iter_mut().for_each(|part| part.rows = Some((rows.clone(), total)));
        self
    }

    /// The bias is these outputs of one that is stored with `total` outputs.
    pub fn bias_rows(mut self, rows: Range<usize>, total: usize) -> Self {
        self.bias.iter_mut().flatten().for_each(|part| part.rows = Some((rows.clone(), total)));
        self
    }

    /// Multiplied by the parameter `name`, where one is given.
    pub fn scaled(mut self, name: Option<&str>) -> Self {
        self.scale = name.map(str::to_owned);
        self
    }

    /// With an activation applied to the output.
    pub fn activated(mut self, activation: Activation) -> Self {
        self.activation = Some(activation);
        self
    }

    /// Whether the layer has a bias.
    pub fn has_bias(&self) -> bool {
        !self.bias.is_empty()
    }

    /// A name for the weight as it is read: what is stacked, which outputs are taken, what they are multiplied by.
    pub fn weight_name(&self, w: &Weights) -> String {
        self.combined_name(w, &mut self.weight.iter())
    }

    /// A name for the bias as it is read.
    pub fn bias_name(&self, w: &Weights) -> String {
        self.combined_name(w, &mut self.bias.iter().flatten())
    }

    fn combined_name(&self, w: &Weights, parts: &mut dyn Iterator<Item = &ParamRows>) -> String {
        let parts: Vec<_> = parts.map(|part| w.path(&part.to_string())).collect();
        let mut name = parts.join("+");
        if let Some(scale) = &self.scale {
            name += &format!("*{}", w.path(scale));
        }
        name
    }

    /// Declares the layer's parameters without reading them.
    ///
    /// # Errors
    /// As [`Weights::require`].
    pub fn require(&self, w: &Weights) -> Result<()> {
        let axis = match self.layout {
            WeightLayout::OutIn => ChannelAxis::Rows,
            WeightLayout::InOut => ChannelAxis::Columns,
        };
        for part in &self.weight {
            match self.quantize {
                true => w.require_quantizable(&part.name, &self.stored_dims(part), axis)?,
                false => w.require(&part.name, &self.stored_dims(part))?,
            }
        }
        for part in self.bias.iter().flatten() {
            w.require(&part.name, &[part.stored(self.part_outputs(self.bias.len()))])?;
        }
        self.scale.as_ref().map_or(Ok(()), |name| w.require(name, &[self.out_features]))
    }

    /// Reads the layer's weight, in its own layout, and bias below the scope of `w`.
    ///
    /// # Errors
    /// As [`Weights::read`].
    pub fn read(&self, w: &Weights) -> Result<(HostTensor, Option<HostTensor>)> {
        let dims = match self.layout {
            WeightLayout::OutIn => [self.out_features, self.in_features],
            WeightLayout::InOut => [self.in_features, self.out_features],
        };
        let weight = HostTensor::new(dims, self.weight_values(w)?.into_owned())?;
        self.release(w);
        Ok((weight, self.read_bias(w)?))
    }

    /// Tells `w` that the weight was read and won't be again soon.
    pub fn release(&self, w: &Weights) {
        self.weight.iter().for_each(|part| w.release(&part.name));
    }

    /// The values of the layer's weight in its own layout: where they lie in the checkpoint's own memory, unless it has
    /// them in another form.
    ///
    /// # Errors
    /// As [`Weights::read`].
    pub fn weight_values<'w>(&self, w: &'w Weights) -> Result<Cow<'w, [f32]>> {
        let part_values = |part: &ParamRows| -> Result<Cow<'w, [f32]>> {
            let values = w.values(&part.name, &self.stored_dims(part))?;
            Ok(match self.layout {
                WeightLayout::OutIn => part.select(values, self.in_features),
                WeightLayout::InOut => values,
            })
        };
        let mut weight = match self.weight.as_slice() {
            [part] => part_values(part)?,
            parts => {
                let mut stacked = Vec::with_capacity(self.in_features * self.out_features);
                for part in parts {
                    stacked.extend_from_slice(&part_values(part)?);
                }
                Cow::Owned(stacked)
            }
        };
        if let Some(scale) = self.read_scale(w)? {
            let weight = weight.to_mut();
            match self.layout {
                WeightLayout::OutIn => {
                    let rows = weight.chunks_exact_mut(self.in_features.max(1));
                    rows.zip(&scale)
                        .for_each(|(row, factor)| row.iter_mut().for_each(|value| *value *= factor));
                }
                WeightLayout::InOut => {
                    for row in weight.chunks_exact_mut(self.out_features.max(1)) {
                        row.iter_mut().zip(&scale).for_each(|(value, factor)| *value *= factor);
                    }
                }
            }
        }
        Ok(weight)
    }

    /// Reads the layer's bias, where it has one.
    ///
    /// # Errors
    /// As [`Weights::read`].
    pub fn read_bias(&self, w: &Weights) -> Result<Option<HostTensor>> {
        if !self.has_bias() {
            return Ok(None);
        }
        let outputs = self.part_outputs(self.bias.len());
        let mut bias = Vec::with_capacity(self.out_features);
        for part in &self.bias {
            match part {
                Some(part) => {
                    let values = w.values(&part.name, &[part.stored(outputs)])?;
                    bias.extend_from_slice(&part.select(values, 1));
                }
                None => bias.resize(bias.len() + outputs, 0.0),
            }
        }
        if let Some(scale) = self.read_scale(w)? {
            bias.iter_mut().zip(scale).for_each(|(value, factor)| *value *= factor);
        }
        HostTensor::new([self.out_features], bias).map(Some)
    }

    fn read_scale(&self, w: &Weights) -> Result<Option<Vec<f32>>> {
        self.scale.as_ref().map(|name| w.read_f32(name, &[self.out_features])).transpose()
    }

    /// Outputs of each of `parts` parts.
    fn part_outputs(&self, parts: usize) -> usize {
        self.out_features / parts.max(1)
    }

    /// Dimensions of a weight parameter as it is stored.
    fn stored_dims(&self, part: &ParamRows) -> [usize; 2] {
        let outputs = part.stored(self.part_outputs(self.weight.len()));
        match self.layout {
            WeightLayout::OutIn => [outputs, self.in_features],
            WeightLayout::InOut => [self.in_features, outputs],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::weights::synth::SynthesisedWeights;

    fn weights() -> Weights {
        Weights::new(Arc::new(SynthesisedWeights::new())).scope("layer")
    }

    #[test]
    fn stacked_parameters_are_the_rows_of_one() {
        let w = weights();
        let stacked = LinearSpec::new(4, 9)
            .stacked(&["q.weight", "k.weight", "v.weight"], &[Some("q.bias"), None, Some("v.bias")]);
        let (weight, bias) = stacked.read(&w).unwrap();
        let (weight, bias) = (weight.data(), bias.unwrap().into_data());
        for (index, name) in ["q", "k", "v"].into_iter().enumerate() {
            let alone = LinearSpec::new(4, 3).within(name).biased(name != "k");
            let (rows, values) = alone.read(&w).unwrap();
            assert_eq!(weight[index * 12..][..12], *rows.data());
            let values = values.map_or_else(|| vec![0.0; 3], HostTensor::into_data);
            assert_eq!(bias[index * 3..][..3], values);
        }
        assert_eq!(stacked.weight_name(&w), "layer.q.weight+layer.k.weight+layer.v.weight");
    }

    #[test]
    fn a_scale_multiplies_the_outputs() {
        let w = weights();
        let scale = w.read_f32("gamma", &[3]).unwrap();
        for layout in [WeightLayout::OutIn, WeightLayout::InOut] {
            let plain = LinearSpec { layout, ..LinearSpec::new(2, 3) };
            let (weight, bias) = plain.read(&w).unwrap();
            let (scaled, scaled_bias) = plain.scaled(Some("gamma")).read(&w).unwrap();
            for (index, (value, plain)) in scaled.data().iter().zip(weight.data()).enumerate() {
                let output = if layout == WeightLayout::OutIn { index / 2 } else { index % 3 };
                assert_eq!(*value, plain * scale[output]);
            }
            let bias = bias.unwrap();
            let expected: Vec<f32> =
                bias.data().iter().zip(&scale).map(|(bias, scale)| bias * scale).collect();
            assert_eq!(scaled_bias.unwrap().data(), expected);
        }
    }
}
