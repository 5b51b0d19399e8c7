//! The functions and classes that a file of tensors may name.
//!
//! A pickle can name any function that the Python reading it could import, and have it called.
//! Nothing is called here; but a file that names anything but parts of tensors was made to harm
//! whoever opens it in Python, or is not a file of tensors, and either is worth a word. The list is
//! PyTorch's own, that of `torch.load(weights_only=True)` in `torch/_weights_only_unpickler.py`, as
//! far as tensors and what stands between them go, and NumPy's scalars.

const NUMBERS: [&str; 21] = [
    "bfloat16",
    "bool",
    "cdouble",
    "cfloat",
    "chalf",
    "complex128",
    "complex64",
    "double",
    "float",
    "float16",
    "float32",
    "float64",
    "half",
    "int",
    "int16",
    "int32",
    "int64",
    "int8",
    "long",
    "short",
    "uint8",
];

/// Whether a file of tensors may name `"module name"`.
pub(super) fn is_known(global: &str) -> bool {
    let Some((module, name)) = global.split_once(' ') else { return false };
    match module {
        "torch" => {
            NUMBERS.contains(&name)
                || is_storage(name)
                || ["Size", "Tensor", "device"].contains(&name)
        }
        "torch.storage" => is_storage(name),
        "torch.nn.parameter" => ["Parameter", "Buffer"].contains(&name),
        "torch.serialization" => name == "_get_layout",
        "torch._utils" => name.starts_with("_rebuild_"),
        "torch._tensor" => name == "_rebuild_from_type_v2",
        "collections" => ["OrderedDict", "Counter", "defaultdict"].contains(&name),
        "_codecs" => name == "encode",
        "builtins" | "__builtin__" => {
            ["bytearray", "complex", "set", "frozenset", "dict", "list", "int", "float", "str"]
                .contains(&name)
        }
        "numpy" => ["dtype", "ndarray"].contains(&name),
        "numpy.core.multiarray" | "numpy._core.multiarray" => {
            ["scalar", "_reconstruct"].contains(&name)
        }
        _ => false,
    }
}

fn is_storage(name: &str) -> bool {
    name.strip_suffix("Storage")
        .is_some_and(|kind| kind.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}
