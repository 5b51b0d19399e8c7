use std::io::Write;

use proptest::prelude::*;

use super::*;

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/torch").join(file)
}

fn numbers(file: &mut Tensors, name: &str) -> (Dtype, Vec<usize>, Vec<f64>) {
    let Numbers { dtype, shape, bytes } = file.read(name).unwrap().unwrap();
    let values = match dtype {
        Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b).into()).collect(),
        Dtype::F64 => bytes.as_chunks::<8>().0.iter().map(|&b| f64::from_le_bytes(b)).collect(),
        Dtype::F16 => bytes.as_chunks::<2>().0.iter().map(|&b| half::f16::from_le_bytes(b).to_f64()).collect(),
        Dtype::BF16 => bytes.as_chunks::<2>().0.iter().map(|&b| half::bf16::from_le_bytes(b).to_f64()).collect(),
        Dtype::I64 => bytes.as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b) as f64).collect(),
        _ => bytes.iter().map(|&b| b.into()).collect(),
    };
    (dtype, shape, values)
}

#[test]
fn tensors_are_read_however_they_lie() {
    let x = |i: usize, j: usize, k: usize| (12 * i + 4 * j + k) as f64;
    let all = |of: &dyn Fn(f64) -> f64| (0..24).map(|n| of(f64::from(n))).collect::<Vec<f64>>();
    let turned: Vec<f64> = (0..4).flat_map(|k| (0..2).flat_map(move |i| (0..3).map(move |j| x(i, j, k)))).collect();
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
fn what_is_no_such_file_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.bin");
    let told = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Tensors::open(&path).err().unwrap().to_string()
    };
    assert!(told(&std::fs::read(golden("old.pt")).unwrap()).contains("before version 1.6"));
    assert!(told(b"").contains("no zip archive"));
    let whole = std::fs::read(golden("tensors.pt")).unwrap();
    assert!(told(&whole[..whole.len() / 2]).contains("cut off"));
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("a/other", zip::write::SimpleFileOptions::default()).unwrap();
    assert!(told(&zip.finish().unwrap().into_inner()).contains("no data.pkl"));
    assert!(told(&archive(b"cos\nsystem\nX\x02\0\0\0lsR.", b"")).contains("no dictionary"), "a call is not made");
}

/// A file with a pickle and one storage, "0".
fn archive(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in [("a/data.pkl", pickle), ("a/data/0", storage)] {
        zip.start_file(name, zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored)).unwrap();
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
    [b"\x80\x02}X\x01\0\0\0xctorch._utils\n_rebuild_tensor_v2\n(".as_slice(), storage, offset, &tuple(shape), &tuple(strides), b"\x89}tRs."]
        .concat()
}

#[test]
fn a_tensor_that_reaches_beyond_its_storage_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.bin");
    let storage: Vec<u8> = (0..4).flat_map(|n| (n as f32).to_le_bytes()).collect();
    let read = |offset: &[u8], shape: &[u8], strides: &[u8]| {
        std::fs::write(&path, archive(&one_tensor(offset, shape, strides), &storage)).unwrap();
        Tensors::open(&path).unwrap().read("x").map(|numbers| numbers.map(|n| n.bytes.len() / 4)).map_err(|e| e.to_string())
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
    assert_eq!(read(b"J\xff\xff\xff\xff", &[1], &[1]), Ok(None), "a negative offset is no tensor");
}

#[test]
fn numbers_and_texts_between_tensors_are_read_and_so_are_dictionaries_within() {
    let code = b"}(X\x01\0\0\0kK\x20X\x01\0\0\0fG\x3f\xf8\0\0\0\0\0\0X\x01\0\0\0d}X\x01\0\0\0tX\x04\0\0\0ReLUsu.";
    let found = Machine::run(code).unwrap().plain;
    let want = [("d.t", Plain::Text("ReLU".into())), ("f", Plain::Number(1.5)), ("k", Plain::Number(32.0))];
    assert!(found.iter().map(|(name, value)| (name.as_str(), value.clone())).eq(want));
    // Three dictionaries, each of a hundred times the next: a million values from a pickle of a thousand bytes.
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
    let nested =
        [b"}X\x01\0\0\0x".as_slice(), &b"ctorch._utils\n_rebuild_parameter\n".repeat(9), b")", &b"\x85R".repeat(9), b"s."].concat();
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
    assert_eq!(numbers(&mut file, "w"), (Dtype::F32, vec![2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.5]));
    assert_eq!(numbers(&mut file, "none"), (Dtype::F32, vec![0, 4], vec![]));
    let read = file.read("k").unwrap().unwrap();
    assert_eq!((read.dtype, read.shape, read.bytes), (Dtype::I32, vec![], (-7i32).to_le_bytes().to_vec()));
    let bytes = std::fs::read(&path).unwrap();
    save(&path, &tensors()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "the same tensors give the same bytes");
}
