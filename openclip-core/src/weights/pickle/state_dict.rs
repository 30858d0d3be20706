//! From a pickle's value to named tensors: unwraps `state_dict`, walks dictionaries and modules, and joins their keys
//! with dots.

use std::{collections::HashMap, rc::Rc};

use super::{
    machine::Machine,
    value::{Fault, Id, TensorRef, Value},
};

/// Nesting of dictionaries and modules. The deepest published model has ten levels.
const MAX_DEPTH: usize = 32;

/// Dictionary items that are looked at, and bytes of all names together: a dictionary that contains others more than
/// once unfolds to a multiple of the pickle's size.
const MAX_ITEMS: usize = 1_000_000;
const MAX_NAME_BYTES: usize = 64 << 20;

/// The named tensors of `pickle`, in its order.
pub(super) fn read(pickle: &[u8]) -> Result<Vec<(String, Rc<TensorRef>)>, Fault> {
    let (machine, top) = Machine::run(pickle)?;
    let root = state_dict(&machine, top).unwrap_or(top);
    if items(&machine, root).is_none() {
        return Err(Fault::Malformed(
            "its pickle is not a dictionary of tensors; save `model.state_dict()` with torch.save".into(),
        ));
    }
    let mut walk =
        Walk { machine: &machine, found: Vec::new(), places: HashMap::new(), items: 0, name_bytes: 0 };
    walk.visit(root, "", 0)?;
    if walk.found.is_empty() {
        return Err(Fault::Malformed(
            "its pickle has no tensors; save `model.state_dict()` with torch.save".into(),
        ));
    }
    Ok(walk.found)
}

/// The value below the key `state_dict` of a training checkpoint.
fn state_dict(machine: &Machine<'_>, top: Id) -> Option<Id> {
    let Value::Dict(items) = machine.get(top) else { return None };
    let is_key = |id: Id| matches!(machine.get(id), Value::Str(key) if key == "state_dict");
    items.iter().rev().find(|&&(key, _)| is_key(key)).map(|&(_, value)| value)
}

/// The items of a dictionary or the attributes of a module.
fn items<'m>(machine: &'m Machine<'_>, id: Id) -> Option<&'m [(Id, Id)]> {
    match machine.get(id) {
        Value::Dict(items) => Some(items),
        Value::Module(Some(attributes)) => match machine.get(*attributes) {
            Value::Dict(items) => Some(items),
            _ => Some(&[]),
        },
        Value::Module(None) => Some(&[]),
        _ => None,
    }
}

struct Walk<'m, 'p> {
    machine: &'m Machine<'p>,
    found: Vec<(String, Rc<TensorRef>)>,
    /// Where in `found` a name is.
    places: HashMap<String, usize>,
    items: usize,
    name_bytes: usize,
}

impl Walk<'_, '_> {
    fn visit(&mut self, id: Id, prefix: &str, depth: usize) -> Result<(), Fault> {
        let Some(items) = items(self.machine, id) else { return Ok(()) };
        if depth > MAX_DEPTH {
            return Err(Fault::Malformed(format!(
                "its pickle nests dictionaries more than {MAX_DEPTH} deep; it is not a checkpoint"
            )));
        }
        for &(key, value) in items {
            self.items += 1;
            let value_of = self.machine.get(value);
            let key = match self.machine.get(key) {
                Value::Str(key) => key.to_string(),
                Value::Int(key) => key.to_string(),
                _ => continue,
            };
            let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
            self.name_bytes += name.len();
            if self.items > MAX_ITEMS || self.name_bytes > MAX_NAME_BYTES {
                return Err(Fault::Malformed(
                    "its pickle has far more names than a checkpoint needs; it is not one".into(),
                ));
            }
            match value_of {
                Value::Tensor(tensor) => self.add(name, tensor),
                _ => self.visit(value, &name, depth + 1)?,
            }
        }
        Ok(())
    }

    /// A later tensor of the same name replaces the earlier one, as in a Python dictionary.
    fn add(&mut self, name: String, tensor: &Rc<TensorRef>) {
        match self.places.get(&name).and_then(|&place| self.found.get_mut(place)) {
            Some((_, earlier)) => *earlier = Rc::clone(tensor),
            None => {
                self.places.insert(name.clone(), self.found.len());
                self.found.push((name, Rc::clone(tensor)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text as `SHORT_BINUNICODE`.
    fn text(text: &str) -> Vec<u8> {
        [&[0x8c, text.len() as u8][..], text.as_bytes()].concat()
    }

    fn global(module: &str, name: &str) -> Vec<u8> {
        format!("c{module}\n{name}\n").into_bytes()
    }

    /// A tensor `[2]` of `f32` in storage `key`.
    fn tensor(key: &str) -> Vec<u8> {
        [
            global("torch._utils", "_rebuild_tensor_v2"),
            b"((".to_vec(),
            text("storage"),
            global("torch", "FloatStorage"),
            text(key),
            text("cpu"),
            b"K\x02tQK\0K\x02\x85K\x01\x85\x89".to_vec(),
            global("collections", "OrderedDict"),
            b")RtR".to_vec(),
        ]
        .concat()
    }

    fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let items: Vec<u8> =
            items.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
        [b"}(".to_vec(), items, b"u".to_vec()].concat()
    }

    fn names(value: &[u8]) -> Result<Vec<String>, Fault> {
        let pickle = [b"\x80\x02", value, b"."].concat();
        Ok(read(&pickle)?.into_iter().map(|(name, _)| name).collect())
    }

    fn refusal(value: &[u8]) -> String {
        match names(value) {
            Err(Fault::Malformed(message)) => message,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn dictionaries_become_dotted_names() {
        let nested = dict(&[("b", tensor("0")), ("a", dict(&[("x", tensor("1")), ("note", b"N".to_vec())]))]);
        assert_eq!(names(&nested).unwrap(), ["b", "a.x"]);
        let training =
            dict(&[("epoch", b"K\x03".to_vec()), ("state_dict", nested), ("optimizer", tensor("2"))]);
        assert_eq!(names(&training).unwrap(), ["b", "a.x"]);
    }

    #[test]
    fn modules_are_their_attributes() {
        let class = global("__torch__.model", "CLIP");
        let module = [class.clone(), b")\x81".to_vec(), dict(&[("w", tensor("0"))]), b"b".to_vec()].concat();
        let outer =
            [class, b")\x81".to_vec(), dict(&[("visual", module), ("n", b"K\x01".to_vec())]), b"b".to_vec()]
                .concat();
        assert_eq!(names(&outer).unwrap(), ["visual.w"]);
    }

    #[test]
    fn a_later_item_replaces_an_earlier_one() {
        let pickle =
            [dict(&[("a", tensor("0")), ("b", tensor("1")), ("a", tensor("2"))]), b".".to_vec()].concat();
        let found = read(&pickle).unwrap();
        let keys: Vec<_> =
            found.iter().map(|(name, tensor)| (name.as_str(), tensor.storage.key.as_str())).collect();
        assert_eq!(keys, [("a", "2"), ("b", "1")]);
    }

    #[test]
    fn code_is_refused_and_named() {
        let call = [global("os", "system"), text("echo owned"), b"\x85R".to_vec()].concat();
        assert_eq!(names(&call), Err(Fault::Unsafe("os.system".into())));
        let stacked = [text("builtins"), text("eval"), b"\x93".to_vec()].concat();
        assert_eq!(names(&stacked), Err(Fault::Unsafe("builtins.eval".into())));
        let deep = dict(&[("state_dict", dict(&[("a", tensor("0")), ("b", call)]))]);
        assert_eq!(names(&deep), Err(Fault::Unsafe("os.system".into())));
    }

    #[test]
    fn other_values_are_no_checkpoint() {
        assert!(refusal(&tensor("0")).contains("not a dictionary"));
        assert!(refusal(b"]").contains("not a dictionary"));
        assert!(refusal(b"}").contains("has no tensors"));
    }

    /// A dictionary that holds the one before it ten times, thirty times over, has 10^30 items when it is unfolded.
    #[test]
    fn attempts_to_exhaust_memory_are_refused() {
        let mut bomb = [dict(&[("w", tensor("0"))]), b"q\0".to_vec()].concat();
        for _ in 0..30 {
            let ten: Vec<u8> = (b'a'..b'k').flat_map(|key| [0x8c, 1, key, b'h', 0]).collect();
            bomb.extend([b"}(".to_vec(), ten, b"uq\0".to_vec()].concat());
        }
        assert!(refusal(&bomb).contains("far more names"));

        let long_key = "k".repeat(200);
        let mut names = [dict(&[("w", tensor("0"))]), b"q\0".to_vec()].concat();
        for _ in 0..20 {
            names.extend(
                [b"}(".to_vec(), text(&long_key), b"h\0".to_vec(), text("x"), b"h\0uq\0".to_vec()].concat(),
            );
        }
        assert!(refusal(&names).contains("far more names"));

        let cycle = [b"}q\0".to_vec(), text("w"), tensor("0"), b"s".to_vec(), text("self"), b"h\0s".to_vec()]
            .concat();
        assert!(refusal(&cycle).contains("deep"));

        let deep = [vec![b'('; 100_000], vec![b't'; 100_000]].concat();
        assert!(refusal(&deep).contains("not a dictionary"));
        let many = vec![b'N'; 5_000_000];
        assert!(refusal(&many).contains("far more values"));
        // `list * n`: one long list of pairs that is made into a dictionary again and again.
        let mut copies = [b"](".to_vec(), b"NN\x86".repeat(1000), b"eq\0".to_vec()].concat();
        copies.extend([global("collections", "OrderedDict"), b"q\x01".to_vec()].concat());
        copies.extend(b"h\x01h\0\x85R0".repeat(100_000));
        assert!(refusal(&copies).contains("far more values"));
    }

    #[test]
    fn damaged_tensors_are_refused() {
        let valid = tensor("0");
        let replace = |from: &[u8], to: &[u8]| {
            let at = valid.windows(from.len()).position(|window| window == from).unwrap();
            [&valid[..at], to, &valid[at + from.len()..]].concat()
        };
        for (damage, expected) in [
            (replace(b"K\x02tQ", b"J\xff\xff\xff\xfftQ"), "storage of -1 elements"),
            (replace(b"storage", b"storaga"), "not a storage"),
            (replace(b"K\x02\x85K\x01\x85", b"K\x02\x85)"), "1 dimensions with 0 strides"),
            (replace(b"K\x02\x85K\x01\x85", b"J\0\0\0\x80\x85K\x01\x85"), "size -2147483648"),
            (replace(b"K\x02\x85K\x01\x85", b"N\x85K\x01\x85"), "not a number"),
            (b"(R".to_vec(), "empty stack"),
            (b"00".to_vec(), "no mark"),
            (b"(NNu".to_vec(), "not a dictionary"),
            (b"}(K\x01u".to_vec(), "key without a value"),
            (b"h\x07".to_vec(), "memo 7"),
            (b"t".to_vec(), "no mark"),
            (b"}K\x01)R".to_vec(), "not a known constructor"),
        ] {
            let found = refusal(&dict(&[("w", damage)]));
            assert!(found.contains(expected), "`{expected}` not in `{found}`");
        }
    }
}
