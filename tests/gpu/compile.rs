//! The kernels compiled by the system's C++ compiler, against `emulator.h`. The tests of the command
//! use it too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the workspace, which holds this file.
fn root() -> &'static Path {
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    above.find(|folder| folder.join("tests/gpu/emulator.h").exists()).unwrap()
}

/// Whether this processor has the order of sums that a card has: others cannot say what is right.
pub fn has_the_order() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    #[cfg(not(target_arch = "x86_64"))]
    let has = false;
    if !has {
        eprintln!("skipped: this processor has no AVX-512, whose bits a card gives");
    }
    has
}

/// The folder of a library that is an NVIDIA driver to whoever finds it on his path, and whose card is
/// the emulator; `None`, with a word on why, if there is no C++ compiler.
pub fn driver() -> Option<PathBuf> {
    let extra = format!("#include \"{}/tests/gpu/driver.cpp\"", root().display());
    Some(compile("driver", &sources(), &extra)?.parent()?.to_owned())
}

/// The crate's own kernels, by file.
pub fn sources() -> Vec<(PathBuf, String)> {
    let files = files_in(&root().join("src/device/kernels"), "cu");
    files.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The files of a folder with this extension, in order.
pub fn files_in(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == extension))
        .collect();
    files.sort();
    files
}

/// The names of the kernels in a source: what stands before the bracket after `__global__`.
pub fn kernels_in(source: &str) -> Vec<String> {
    let heads = source.split("extern \"C\" __global__").skip(1);
    heads
        .map(|head| {
            let head = head.trim_start().trim_start_matches("void").trim_start();
            let head = match head.strip_prefix("__launch_bounds__") {
                Some(rest) => &rest[rest.find(')').unwrap() + 1..],
                None => head,
            };
            head[..head.find('(').unwrap()].trim().to_owned()
        })
        .collect()
}

/// Compiles kernels for the emulator, with `extra` behind them, to a library in a folder of its
/// own; `None`, with a word on why, if there is no C++ compiler.
pub fn compile(name: &str, sources: &[(PathBuf, String)], extra: &str) -> Option<PathBuf> {
    let root = root();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("emulator-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let mut unit = format!("#include \"{}/tests/gpu/emulator.h\"\n", root.display());
    let mut table = String::new();
    for (path, source) in sources {
        let file = path.file_name().unwrap().to_str().unwrap();
        fs::write(dir.join(file), source).unwrap();
        unit += &format!("#include \"{file}\"\n");
        for kernel in kernels_in(source) {
            let call = format!("emulator::Call<{kernel}>");
            table += &format!("{{\"{kernel}\", {call}::run, {call}::fits, {call}::keep}},\n");
        }
    }
    unit += &format!("static const emulator::Entry entries[] = {{\n{table}}};\n{extra}\n");
    fs::write(dir.join("unit.cpp"), unit).unwrap();
    let library = dir.join("libcuda.so");
    let flags =
        ["-std=c++17", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-fvisibility=hidden"];
    for compiler in ["c++", "g++", "clang++"] {
        let mut command = Command::new(compiler);
        command.args(flags).arg("-I").arg(root.join("src/device/kernels"));
        let Ok(output) = command.arg("-o").arg(&library).arg(dir.join("unit.cpp")).output() else {
            continue;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{compiler}: {said}");
        return Some(library);
    }
    eprintln!(
        "skipped: the GPU's kernels are tested by a C++ compiler (c++, g++ or clang++), and there is none"
    );
    None
}
