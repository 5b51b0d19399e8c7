//! With the real packages: what they write again is read, and what is written here is read by them.

use std::process::Command;
use tokenized_sae::sae::ModelCard;

use super::*;

const SCRIPT: &str = "check.py";

/// A Python with the packages, if the environment names one.
pub fn python() -> Option<PathBuf> {
    let python = std::env::var_os("TSAE_INTERCHANGE_PYTHON").map(PathBuf::from);
    if python.is_none() {
        eprintln!(
            "skipped: set TSAE_INTERCHANGE_PYTHON to the Python that tests/interchange/environment.sh prints"
        );
    }
    python
}

/// Runs a script of this folder.
pub fn run(python: &Path, script: &str, verb: &str, folder: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interchange").join(script);
    let output = Command::new(python).arg(script).arg(verb).arg(folder).output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{out}");
    assert!(output.status.success(), "{out}\n{err}");
}

#[test]
fn what_the_packages_write_now_is_read() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    run(&python, SCRIPT, "make", dir.path());
    assert_eq!(
        load_all(dir.path()),
        load_all(&golden()),
        "tests/golden/sae holds what `check.py make` makes"
    );
}

/// Held to SAELens' own classes, field by field.
#[test]
fn what_saelens_fills_in_may_be_missing() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    run(&python, SCRIPT, "without", dir.path());
    // Six settings of each of four classes but for dtype, two of TopK's own, and twelve trainings.
    assert_eq!(load_all(dir.path()), 4 * 5 + 2 + 12);
}

#[test]
fn what_is_written_here_is_read_by_the_packages() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let write = |name: String, sae: &Sae, format: SaeFormat, table: TableExport, case: &Case| {
        sae.export(dir.path().join(&name), format, table).unwrap();
        case.write(&dir.path().join(format!("{name}.safetensors")));
    };
    let prefix = |format: SaeFormat| match format {
        SaeFormat::SaeLens => "saelens",
        SaeFormat::Sparsify => "sparsify",
        SaeFormat::DictionaryLearning => "dictionary-learning",
        SaeFormat::Llamascopium => "llamascopium",
        SaeFormat::Tsae => unreachable!("not in the list"),
    };
    for architecture in ARCHITECTURES {
        for format in formats(architecture) {
            let name = |what: &str| format!("{} {} {what}", prefix(format), architecture.name());
            let sae = sample(architecture, false);
            write(name("plain"), &sae, format, TableExport::Drop, &Case::of(&sae));
            // The packages see the SAE without its table, whether that stands beside it or is
            // folded.
            let tokenized = sample(architecture, true);
            let without = tokenized.without_table().unwrap();
            write(name("keep"), &tokenized, format, TableExport::Keep, &Case::of(&without));
            write(
                name("fold"),
                &tokenized,
                format,
                TableExport::Fold,
                &Case::of(&tokenized.fold_table(None).unwrap()),
            );
        }
    }
    let mut matryoshka = sample(Architecture::BatchTopK, false);
    matryoshka.config = matryoshka.config.with_prefixes(&[2, 5]);
    write(
        "dictionary-learning Matryoshka".into(),
        &matryoshka,
        SaeFormat::DictionaryLearning,
        TableExport::Drop,
        &Case::of(&matryoshka),
    );
    for row_norm in [RowNorm::LayerNorm, RowNorm::ConstantNorm] {
        let sae = scaled_by_row(row_norm, false);
        write(
            format!("saelens {row_norm:?}"),
            &sae,
            SaeFormat::SaeLens,
            TableExport::Drop,
            &Case::of(&sae),
        );
    }
    let sae = scaled_by_row(RowNorm::ConstantNorm, false);
    write(
        "llamascopium ConstantNorm".into(),
        &sae,
        SaeFormat::Llamascopium,
        TableExport::Drop,
        &Case::of(&sae),
    );
    run(&python, SCRIPT, "check", dir.path());
}

#[test]
fn the_python_of_a_model_card_computes_the_same() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let save = |name: &str, sae: &Sae| {
        let folder = dir.path().join(name);
        sae.save(&folder).unwrap();
        sae.write_card(&folder, &ModelCard::default()).unwrap();
        Case::of(sae).write(&dir.path().join(format!("{name}.safetensors")));
    };
    for architecture in ARCHITECTURES {
        for with_table in [false, true] {
            let mut sae = sample(architecture, with_table);
            save(&format!("{} {with_table}", architecture.name()), &sae);
            sae.config.relu = false;
            sae.subtract = with_table;
            save(&format!("{} {with_table} otherwise", architecture.name()), &sae);
        }
    }
    for row_norm in [RowNorm::LayerNorm, RowNorm::ConstantNorm] {
        for with_table in [false, true] {
            let sae = Sae { subtract: with_table, ..scaled_by_row(row_norm, with_table) };
            save(&format!("{row_norm:?} {with_table}"), &sae);
        }
    }
    run(&python, SCRIPT, "card", dir.path());
}
