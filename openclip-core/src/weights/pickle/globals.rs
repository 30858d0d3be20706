//! The Python names that a pickle may ask for. Everything that isn't listed here is refused, and what is listed
//! stands for a few lines of this crate, never for Python code.

use super::super::DType;

/// An element type of PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ElementType {
    /// PyTorch's name.
    pub(super) name: &'static str,
    /// Bytes per element.
    pub(super) size: usize,
    /// `None` if no model here uses it: its tensors are listed but can't be read.
    pub(super) dtype: Option<DType>,
}

/// What a Python name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// `torch.FloatStorage` and its like: the type of a storage.
    Storage(ElementType),
    /// `torch.float32` and its like.
    Element(ElementType),
    /// `torch._utils._rebuild_tensor` and later versions: a tensor from storage, offset, size and strides.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter` and what else returns its first argument.
    FirstArgument,
    /// `torch._tensor._rebuild_from_type_v2`: calls its first argument with its third.
    RebuildFromType,
    /// `dict` and its subclasses.
    Dict,
    /// `list`, `set` and their like.
    List,
    /// A class of a TorchScript archive. Its objects are dictionaries of attributes here.
    Module,
    /// A harmless class or function whose result no tensor depends on, so that it isn't made.
    Inert,
}

/// PyTorch's name, its storage class, bytes per element, and ours.
#[rustfmt::skip]
const ELEMENT_TYPES: [(&str, &str, usize, Option<DType>); 26] = [
    ("float32", "FloatStorage", 4, Some(DType::F32)),
    ("float16", "HalfStorage", 2, Some(DType::F16)),
    ("bfloat16", "BFloat16Storage", 2, Some(DType::Bf16)),
    ("float64", "DoubleStorage", 8, Some(DType::F64)),
    ("uint8", "ByteStorage", 1, Some(DType::U8)),
    ("bool", "BoolStorage", 1, Some(DType::U8)),
    ("int8", "CharStorage", 1, Some(DType::I8)),
    ("int16", "ShortStorage", 2, Some(DType::I16)),
    ("int32", "IntStorage", 4, Some(DType::I32)),
    ("int64", "LongStorage", 8, Some(DType::I64)),
    ("complex64", "ComplexFloatStorage", 8, None),
    ("complex128", "ComplexDoubleStorage", 16, None),
    ("qint8", "QInt8Storage", 1, None),
    ("quint8", "QUInt8Storage", 1, None),
    ("qint32", "QInt32Storage", 4, None),
    ("uint16", "", 2, None),
    ("uint32", "", 4, None),
    ("uint64", "", 8, None),
    ("complex32", "", 4, None),
    ("float8_e4m3fn", "", 1, None),
    ("float8_e4m3fnuz", "", 1, None),
    ("float8_e5m2", "", 1, None),
    ("float8_e5m2fnuz", "", 1, None),
    ("float8_e8m0fnu", "", 1, None),
    ("float4_e2m1fn_x2", "", 1, None),
    // A storage whose tensors say their element type themselves; its length is in bytes.
    ("bytes", "UntypedStorage", 1, None),
];

fn find_element_type(by: impl Fn(&str, &str) -> bool) -> Option<ElementType> {
    let (name, _, size, dtype) = ELEMENT_TYPES.into_iter().find(|&(name, storage, ..)| by(name, storage))?;
    Some(ElementType { name, size, dtype })
}

/// The element type that PyTorch calls `name`.
pub(super) fn element_type(name: &str) -> Option<ElementType> {
    find_element_type(|known, _| known == name)
}

fn storage_type(class: &str) -> Option<ElementType> {
    find_element_type(|_, storage| !class.is_empty() && storage == class)
}

/// What `module.name` stands for, or `None` if it is refused.
pub(super) fn find(module: &str, name: &str) -> Option<Global> {
    let global = match (module, name) {
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => {
            Global::RebuildTensor
        }
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
        | ("torch", "Size")
        | (
            "torch.jit._pickle",
            "restore_type_tag" | "build_intlist" | "build_tensorlist" | "build_doublelist" | "build_boollist",
        ) => Global::FirstArgument,
        ("torch._tensor", "_rebuild_from_type_v2") => Global::RebuildFromType,
        ("collections", "OrderedDict" | "defaultdict" | "Counter") | ("builtins" | "__builtin__", "dict") => {
            Global::Dict
        }
        ("collections", "deque") | ("builtins" | "__builtin__", "list" | "set" | "frozenset" | "tuple") => {
            Global::List
        }
        (
            "builtins" | "__builtin__",
            "int" | "float" | "bool" | "str" | "complex" | "bytes" | "bytearray",
        )
        | ("torch", "device" | "Tensor")
        | ("torch.nn.parameter", "Parameter")
        | ("argparse", "Namespace")
        | ("_codecs", "encode")
        | ("numpy", "dtype" | "ndarray")
        | ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar" | "_reconstruct") => Global::Inert,
        ("torch" | "torch.storage", class) if storage_type(class).is_some() => {
            Global::Storage(storage_type(class)?)
        }
        ("torch", dtype) => Global::Element(element_type(dtype)?),
        (module, _) if module == "__torch__" || module.starts_with("__torch__.") => Global::Module,
        _ => return None,
    };
    Some(global)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_tensors_need_is_known() {
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("builtins", "eval"),
            ("builtins", "getattr"),
            ("torch", "load"),
            ("torch", "nn"),
            ("torch.nn.modules.linear", "Linear"),
            ("__torch__x", "M"),
            ("torch", ""),
            ("", ""),
        ] {
            assert_eq!(find(module, name), None, "{module}.{name}");
        }
        let half = element_type("float16").unwrap();
        assert_eq!(find("torch", "HalfStorage"), Some(Global::Storage(half)));
        assert_eq!(find("torch", "float16"), Some(Global::Element(half)));
        assert_eq!(find("__torch__.torch.nn", "Linear"), Some(Global::Module));
    }

    #[test]
    fn sizes_are_those_of_our_element_types() {
        for (name, _, size, dtype) in ELEMENT_TYPES {
            assert!(dtype.is_none_or(|dtype| dtype.size() == size), "{name}");
        }
    }
}
