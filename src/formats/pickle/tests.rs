use std::io::Write;

use proptest::prelude::*;

use super::*;

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/torch").join(file)
}

fn numbers(file: &mut Tensors, name: &str) -> (Dtype, Vec<usize>, Vec<f64>) {
    let Numbers { dtype, shape, bytes } = file.read(name).unwrap().unwrap();
    let values = match dtype {
        Dtype::F32 => {
            bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b).into()).collect()
        }
        Dtype::F64 => bytes.as_chunks::<8>().0.iter().map(|&b| f64::from_le_bytes(b)).collect(),
        Dtype::F16 => {
            bytes.as_chunks::<2>().0.iter().map(|&b| half::f16::from_le_bytes(b).to_f64()).collect()
        }
        Dtype::BF16 => bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&b| half::bf16::from_le_bytes(b).to_f64())
            .collect(),
        Dtype::I64 => {
            bytes.as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b) as f64).collect()
        }
        _ => bytes.iter().map(|&b| b.into()).collect(),
    };
    (dtype, shape, values)
}

#[test]
fn tensors_are_read_however_they_lie() {
    let x = |i: usize, j: usize, k: usize| (12 * i + 4 * j + k) as f64;
    let all = |of: &dyn Fn(f64) -> f64| (0..24).map(|n| of(f64::from(n))).collect::<Vec<f64>>();
    let turned: Vec<f64> =
        (0..4).flat_map(|k| (0..2).flat_map(move |i| (0..3).map(move |j| x(i, j, k)))).collect();
    for name in ["tensors.pt", "tensors4.pt"] {
        let mut file = Tensors::open(&golden(name)).unwrap();
        for (tensor, dtype, shape, values) in [
            ("whole", Dtype::F32, vec![2, 3, 4], all(&|n| n)),
            ("turned", Dtype::F32, vec![4, 2, 3], turned.clone()),
            ("part", Dtype::F32, vec![3, 2], vec![13.0, 14.0, 17.0, 18.0, 21.0, 22.0]),
            ("wide", Dtype::F32, vec![1, 3, 4], [0.0, 1.0, 2.0, 3.0].repeat(3)),
            ("number", Dtype::F32, vec![], vec![23.0]),
            ("empty", Dtype::F32, vec![0, 5], vec![]),
            ("parameter", Dtype::F32, vec![3, 4], all(&|n| n)[..12].to_vec()),
            ("half", Dtype::F16, vec![2, 3, 4], all(&|n| n)),
            ("bfloat", Dtype::BF16, vec![2, 3, 4], all(&|n| n)),
            ("double", Dtype::F64, vec![2, 3, 4], all(&|n| -n / 3.0)),
            ("long", Dtype::I64, vec![2, 3, 4], all(&|n| n - 5.0)),
            ("bool", Dtype::BOOL, vec![2, 3, 4], all(&|n| f64::from(n > 11.0))),
        ] {
            assert_eq!(numbers(&mut file, tensor), (dtype, shape, values), "{name}: {tensor}");
        }
        assert_eq!(file.names().len(), 12, "and nothing else");
        assert!(file.read("not_a_tensor").unwrap().is_none());
    }
}

#[test]
fn an_archive_of_any_name_is_read() {
    let mut file = Tensors::open(&golden("stem_of_21_characters.pt")).unwrap();
    assert_eq!(numbers(&mut file, "x").1, [2, 3, 4]);
}

#[test]
fn what_is_no_such_file_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.bin");
    let told = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Tensors::open(&path).err().unwrap().to_string()
    };
    assert!(told(&std::fs::read(golden("old.pt")).unwrap()).contains("before version 1.6"));
    assert!(told(b"").contains("not a zip archive"));
    let whole = std::fs::read(golden("tensors.pt")).unwrap();
    assert!(told(&whole[..whole.len() / 2]).contains("cut off"));
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("a/other", zip::write::SimpleFileOptions::default()).unwrap();
    assert!(told(&zip.finish().unwrap().into_inner()).contains("no data.pkl"));
    assert!(
        told(&archive(b"ccollections\nCounter\n)R.", b"")).contains("does not make a dictionary"),
        "a call is not made"
    );
}

/// A file with a pickle and one storage, "0".
fn archive(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in [("a/data.pkl", pickle), ("a/data/0", storage)] {
        zip.start_file(
            name,
            zip::write::SimpleFileOptions::default()
                .compression_method(zip::CompressionMethod::Stored),
        )
        .unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A pickle of one tensor "x" of floats, in storage "0".
fn one_tensor(offset: &[u8], shape: &[u8], strides: &[u8]) -> Vec<u8> {
    let tuple = |items: &[u8]| {
        let items: Vec<u8> = items.iter().flat_map(|&n| [b'K', n]).collect();
        [b"(".as_slice(), &items, b"t"].concat()
    };
    let storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ";
    [
        b"\x80\x02}X\x01\0\0\0xctorch._utils\n_rebuild_tensor_v2\n(".as_slice(),
        storage,
        offset,
        &tuple(shape),
        &tuple(strides),
        b"\x89}tRs.",
    ]
    .concat()
}

#[test]
fn a_tensor_that_reaches_beyond_its_storage_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.bin");
    let storage: Vec<u8> = (0..4).flat_map(|n| (n as f32).to_le_bytes()).collect();
    let read = |offset: &[u8], shape: &[u8], strides: &[u8]| {
        std::fs::write(&path, archive(&one_tensor(offset, shape, strides), &storage)).unwrap();
        Tensors::open(&path)
            .unwrap()
            .read("x")
            .map(|numbers| numbers.map(|n| n.bytes.len() / 4))
            .map_err(|e| e.to_string())
    };
    assert_eq!(read(b"K\0", &[2, 2], &[2, 1]), Ok(Some(4)));
    assert_eq!(read(b"K\x01", &[3], &[1]), Ok(Some(3)));
    assert_eq!(read(b"K\0", &[2, 2], &[1, 2]), Ok(Some(4)));
    let huge: &[u8] = b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f";
    for (offset, shape, strides) in [
        (b"K\x01".as_slice(), vec![4], vec![1]),
        (b"K\0", vec![5], vec![1]),
        (b"K\0", vec![5], vec![0]),
        (b"K\0", vec![2, 2], vec![3, 1]),
        (b"K\0", vec![255; 9], vec![0; 9]),
        (huge, vec![2], vec![1]),
        (huge, vec![1], vec![1]),
    ] {
        let told = read(offset, &shape, &strides).unwrap_err();
        assert!(told.contains("needs more than the 4 numbers"), "{told}");
    }
    assert_eq!(
        read(b"J\xff\xff\xff\xff", &[1], &[1]),
        Ok(None),
        "a negative offset is not a tensor"
    );
}

#[test]
fn numbers_and_texts_between_tensors_are_read_and_so_are_dictionaries_within() {
    let code = b"}(X\x01\0\0\0kK\x20X\x01\0\0\0fG\x3f\xf8\0\0\0\0\0\0X\x01\0\0\0d}X\x01\0\0\0tX\x04\0\0\0ReLUsu.";
    let found = Machine::run(code).unwrap().plain;
    let want = [
        ("d.t", Plain::Text("ReLU".into())),
        ("f", Plain::Number(1.5)),
        ("k", Plain::Number(32.0)),
    ];
    assert!(found.iter().map(|(name, value)| (name.as_str(), value.clone())).eq(want));
    // Three dictionaries, each of a hundred times the next: a million values from a pickle of a
    // thousand bytes.
    let mut fan = b"}(X\x01\0\0\0aK\0uq\0".to_vec();
    for level in 0..3u8 {
        fan.extend(b"}(");
        (0..100u8).for_each(|i| fan.extend([b'X', 1, 0, 0, 0, i % 64 + 32, b'h', level]));
        fan.extend([b'u', b'q', level + 1]);
    }
    fan.push(b'.');
    assert!(Machine::run(&fan).unwrap_err().contains("over and over"));
}

#[test]
fn a_pickle_that_nests_or_grows_does_no_harm() {
    let deep = [b"}X\x01\0\0\0x)".as_slice(), &b"\x85".repeat(1_000_000), b"s."].concat();
    assert!(Machine::run(&deep).unwrap().tensors.is_empty());
    // Each time twice as large, if values were copied.
    let mut doubling = b"}X\x01\0\0\0x)q\0".to_vec();
    (0..60).for_each(|_| doubling.extend(b"h\0\x86q\0h\0"));
    assert!(Machine::run(&doubling).is_err());
    assert!(Machine::run(b"X\xff\xff\xff\xffx.").unwrap_err().contains("ends in the middle"));
    // A list that holds itself.
    assert!(Machine::run(b"}X\x01\0\0\0x]q\0h\0as.").unwrap().tensors.is_empty());
    // A parameter of a parameter of a parameter ...
    let nested = [
        b"}X\x01\0\0\0x".as_slice(),
        &b"ctorch._utils\n_rebuild_parameter\n".repeat(9),
        b")",
        &b"\x85R".repeat(9),
        b"s.",
    ]
    .concat();
    assert!(Machine::run(&nested).unwrap().tensors.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn a_damaged_pickle_is_read_or_refused_and_nothing_else(at in 0..10_000usize, with in any::<u8>(), cut in 0..10_000usize) {
        let mut pickle = one_tensor(b"K\0", &[2, 2], &[2, 1]);
        let n = pickle.len();
        pickle[at % n] = with;
        pickle.truncate(n - if cut % 4 == 0 { cut % n } else { 0 });
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.bin");
        std::fs::write(&path, archive(&pickle, &[0; 16])).unwrap();
        if let Ok(mut file) = Tensors::open(&path) {
            for name in file.names() {
                let _ = file.read(&name);
            }
        }
    }

    #[test]
    fn a_damaged_archive_is_read_or_refused_and_nothing_else(changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
        let mut bytes = archive(&one_tensor(b"K\0", &[2, 2], &[2, 1]), &[0; 16]);
        let n = bytes.len();
        changes.iter().for_each(|&(at, with)| bytes[at % n] = with);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.bin");
        std::fs::write(&path, bytes).unwrap();
        if let Ok(mut file) = Tensors::open(&path) {
            for name in file.names() {
                let _ = file.read(&name);
            }
        }
    }
}

#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ae.pt");
    let tensors = || {
        [
            ("w", vec![2, 3], Data::F32(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.5])),
            ("k", vec![], Data::I32(&[-7])),
            ("sizes", vec![3], Data::I64(&[1, 2, 1 << 40])),
            ("none", vec![0, 4], Data::F32(&[])),
        ]
    };
    save(&path, &tensors()).unwrap();
    let mut file = Tensors::open(&path).unwrap();
    assert_eq!(
        numbers(&mut file, "w"),
        (Dtype::F32, vec![2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.5])
    );
    assert_eq!(numbers(&mut file, "none"), (Dtype::F32, vec![0, 4], vec![]));
    let read = file.read("k").unwrap().unwrap();
    assert_eq!(
        (read.dtype, read.shape, read.bytes),
        (Dtype::I32, vec![], (-7i32).to_le_bytes().to_vec())
    );
    let bytes = std::fs::read(&path).unwrap();
    save(&path, &tensors()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "the same tensors give the same bytes");
}

/// A text as protocol 2 has it.
fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

#[test]
fn a_pickle_that_names_what_is_no_part_of_a_tensor_is_refused_by_that_name() {
    let dir = tempfile::tempdir().unwrap();
    let (path, witness) = (dir.path().join("x.bin"), dir.path().join("witness"));
    let command = text(&format!("touch {}", witness.display()));
    let whole = one_tensor(b"K\0", &[2, 2], &[2, 1]);
    let tensor = &whole[b"\x80\x02}X\x01\0\0\0x".len()..whole.len() - b"s.".len()];
    // `__reduce__` returning (function, (command,)), as Python writes it.
    let call = |global: &str| [b"c", global.as_bytes(), b"\nq\0", &command, b"\x85Rq\x01"].concat();
    let beside =
        |inner: &[u8]| [b"\x80\x02}(X\x01\0\0\0x", tensor, b"X\x01\0\0\0y", inner, b"u."].concat();
    let short = |text: &str| [&[0x8c, text.len() as u8], text.as_bytes()].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("os.system", beside(&call("os\nsystem"))),
        ("posix.system", beside(&call("posix\nsystem"))),
        ("nt.system", beside(&call("nt\nsystem"))),
        ("builtins.eval", beside(&call("builtins\neval"))),
        ("builtins.exec", beside(&call("builtins\nexec"))),
        ("builtins.getattr", beside(&call("builtins\ngetattr"))),
        ("builtins.__import__", beside(&call("builtins\n__import__"))),
        ("__builtin__.eval", beside(&call("__builtin__\neval"))),
        ("subprocess.Popen", beside(&call("subprocess\nPopen"))),
        ("functools.partial", beside(&call("functools\npartial"))),
        ("torch.hub.load", beside(&call("torch.hub\nload"))),
        ("torch.load", beside(&call("torch\nload"))),
        ("torch._utils._import_dotted_name", beside(&call("torch._utils\n_import_dotted_name"))),
        ("numpy.load", beside(&call("numpy\nload"))),
        ("runpy._run_code", beside(&call("runpy\n_run_code"))),
        ("shutil.rmtree", beside(&call("shutil\nrmtree"))),
        // By the instructions of protocol 4, where a dot in a name reaches into what it names.
        (
            "os.system",
            beside(
                &[
                    short("os"),
                    short("system"),
                    b"\x93".to_vec(),
                    command.clone(),
                    b"\x85R".to_vec(),
                ]
                .concat(),
            ),
        ),
        (
            "torch.serialization.os.system",
            beside(
                &[
                    short("torch.serialization"),
                    short("os.system"),
                    b"\x93".to_vec(),
                    command.clone(),
                    b"\x85R".to_vec(),
                ]
                .concat(),
            ),
        ),
        // `__newobj__`, and an object in one instruction.
        ("os.popen", beside(&[b"cos\npopen\n", &command[..], b"\x85\x81"].concat())),
        ("os.system", beside(&[b"(", &command[..], b"ios\nsystem\n"].concat())),
        // As what is to be called by something that is known.
        (
            "os.system",
            beside(
                &[
                    b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nctorch\nTensor\n",
                    &command[..],
                    b"\x85}tR",
                ]
                .concat(),
            ),
        ),
        (
            "os.system",
            beside(&[b"ccollections\ndefaultdict\n", &call("os\nsystem")[..], b"\x85R"].concat()),
        ),
        // In the state that is set on an object; in the place of a storage; within lists; where it
        // is thrown away at once.
        (
            "os.system",
            beside(
                &[b"ccollections\nOrderedDict\n)R}X\x01\0\0\0a", &call("os\nsystem")[..], b"sb"]
                    .concat(),
            ),
        ),
        ("os.system", beside(&[b"(X\x07\0\0\0storage", &call("os\nsystem")[..], b"tQ"].concat())),
        (
            "os.system",
            beside(
                &[&b"(X\x07\0\0\0storage(".repeat(3)[..], &call("os\nsystem"), &b"tQtQ".repeat(3)]
                    .concat(),
            ),
        ),
        (
            "os.system",
            beside(&[&b"](".repeat(50)[..], &call("os\nsystem"), &b"e".repeat(50)].concat()),
        ),
        ("os.system", [b"\x80\x02", &call("os\nsystem")[..], b"0", &whole[2..]].concat()),
        // A name in other words.
        ("os.system\0", beside(&call("os\nsystem\0"))),
    ];
    std::fs::write(&path, archive(&beside(b"N"), &[0; 16])).unwrap();
    assert!(
        Tensors::open(&path).unwrap().read("x").unwrap().is_some(),
        "without it, the file is read"
    );
    for (name, pickle) in cases {
        std::fs::write(&path, archive(&pickle, &[0; 16])).unwrap();
        let told = Tensors::open(&path)
            .err()
            .unwrap_or_else(|| panic!("{name} was not noticed"))
            .to_string();
        assert!(
            told.contains(&format!("{name:?}"))
                && told.contains("x.bin")
                && told.contains("nothing of it was run"),
            "{name}: {told}"
        );
    }
    assert!(!witness.exists());
}

#[test]
fn tensors_of_a_storage_that_many_share_are_bounded_by_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.bin");
    let whole = one_tensor(b"K\0", &[100], &[1]);
    let tensor = &whole[b"\x80\x02}X\x01\0\0\0x".len()..whole.len() - b"s.".len()];
    let many = |n: u32| {
        let items: Vec<u8> =
            (0..n).flat_map(|i| [text(&format!("{i:03}")), tensor.to_vec()].concat()).collect();
        std::fs::write(
            &path,
            archive(&[b"\x80\x02}(", &items[..], b"u."].concat(), &vec![0; 400_000]),
        )
        .unwrap();
        let mut file = Tensors::open(&path).unwrap();
        file.names().iter().try_for_each(|name| file.read(name).map(|_| ()))
    };
    many(900).unwrap();
    // The same, each of all there is.
    let each = one_tensor(b"K\0", &[250, 200], &[200, 1]);
    let each = &each[b"\x80\x02}X\x01\0\0\0x".len()..each.len() - b"s.".len()];
    let items: Vec<u8> =
        (0..50).flat_map(|i| [text(&format!("{i:03}")), each.to_vec()].concat()).collect();
    std::fs::write(&path, archive(&[b"\x80\x02}(", &items[..], b"u."].concat(), &vec![0; 400_000]))
        .unwrap();
    let mut file = Tensors::open(&path).unwrap();
    let told = file.names().iter().find_map(|name| file.read(name).err()).unwrap().to_string();
    assert!(told.contains("larger than the file"), "{told}");
}

#[test]
fn a_tensor_of_more_axes_than_pytorch_computes_with_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.bin");
    for (axes, is_tensor) in [(64, true), (65, false)] {
        std::fs::write(
            &path,
            archive(&one_tensor(b"K\0", &vec![1; axes], &vec![7; axes]), &[0; 16]),
        )
        .unwrap();
        assert_eq!(Tensors::open(&path).unwrap().read("x").unwrap().is_some(), is_tensor);
    }
}
