//! Parameters of a headless run: values from outside for the `let`s of a notebook's cell tagged
//! `parameters`.
//!
//! As papermill does, a cell tagged `injected-parameters` is put right after that one. It is the
//! whole cell once more, with the values of the given names replaced, and not only those `let`s: in
//! `let hook: HookPoint = HookPoint::resid_pre(layer);` a value depends on another, maybe within a
//! format string or a macro, and is only certain to be computed again if the whole cell is.
//! The price is that the cell's lines run twice. Commands to the kernel (`:dep`) and to a shell
//! (`!`) at its head are left out of the copy.

mod source;
mod value;

use std::path::Path;

use serde_json::{Map, Value, json};

use self::source::Declaration;
use crate::error::{Error, Result};

/// The tag of the cell that declares parameters, which is papermill's.
const DECLARED: &str = "parameters";
/// The tag of the cell with the values of a run, which is papermill's.
const INJECTED: &str = "injected-parameters";

/// The notebook in a file, ready to run with these values: with its injected cell, and the
/// values in `metadata.papermill.parameters`.
///
/// An injected cell that is there already, since the notebook is the executed copy of another run,
/// gives way.
pub(super) fn inject(path: &Path, given: &[(String, String)]) -> Result<Value> {
    let text = std::fs::read(path).map_err(Error::io("read", path))?;
    let mut notebook: Value = serde_json::from_slice(&text)
        .map_err(|e| Error::format(path, format!("is not a notebook, which is JSON: {e}")))?;
    let has_ids = notebook["nbformat_minor"].as_u64().is_some_and(|minor| minor >= 5);
    let Some(cells) = notebook.get_mut("cells").and_then(Value::as_array_mut) else {
        return Err(Error::format(
            path,
            "has no list of cells: it must be a notebook of format 4, which Jupyter has written since 2015",
        ));
    };
    cells.retain(|cell| !is_tagged(cell, INJECTED));
    let first = given.first().map(|(name, _)| name.as_str()).unwrap_or_default();
    let at = cells.iter().position(|cell| cell["cell_type"] == "code" && is_tagged(cell, DECLARED)).ok_or_else(|| {
        let why = format!(
            "the notebook has no code cell tagged \"{DECLARED}\" to set it in: give one that tag (in JupyterLab: select the cell, open the \
             two gears at the top right, \"Cell Tags\"; in the file: \"metadata\": {{\"tags\": [\"{DECLARED}\"]}})"
        );
        wrong(path, first, why)
    })?;
    let (source, values) =
        overridden(&source_of(&cells[at]), given).map_err(|(name, why)| wrong(path, &name, why))?;
    let metadata = json!({ "tags": [INJECTED] });
    let mut cell = json!({ "cell_type": "code", "metadata": metadata, "source": source, "outputs": [], "execution_count": null });
    if has_ids {
        cell["id"] = free_id(cells).into();
    }
    cells.insert(at + 1, cell);
    // A notebook may lack it, or say "papermill": null.
    let papermill = &mut map(&mut notebook["metadata"])["papermill"];
    map(papermill)["parameters"] = values.into();
    Ok(notebook)
}

/// The cell with other values, and the values as JSON; or the name that is at fault, and why.
fn overridden(
    cell: &str,
    given: &[(String, String)],
) -> Result<(String, Map<String, Value>), (String, String)> {
    let first = given.first().map(|(name, _)| name.clone()).unwrap_or_default();
    let (code, declared) = source::declarations(cell)
        .map_err(|why| (first, format!("the cell tagged \"{DECLARED}\" {why}")))?;
    let mut replaced = Vec::new();
    let mut values = Map::new();
    for (name, text) in given {
        let of_name: Vec<&Declaration> =
            declared.iter().filter(|declaration| declaration.name == *name).collect();
        let why = match of_name[..] {
            [declaration] => match value::value(
                declaration.ty.as_deref(),
                &code[declaration.value.clone()],
                text,
            ) {
                Ok(value) => {
                    if values.insert(name.clone(), value.json).is_none() {
                        replaced.push((declaration.value.clone(), value.source));
                        continue;
                    }
                    "is given twice".to_owned()
                }
                Err(why) => why,
            },
            [] => format!(
                "the cell tagged \"{DECLARED}\" declares no such name: {}",
                listed(&declared)
            ),
            _ => format!(
                "the cell tagged \"{DECLARED}\" declares it {} times: rename the later ones",
                of_name.len()
            ),
        };
        return Err((name.clone(), why));
    }
    replaced.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    let names: Vec<&str> = given.iter().map(|(name, _)| name.as_str()).collect();
    let mut source = code.clone();
    for (range, value) in replaced {
        source.replace_range(range, &value);
    }
    Ok((
        format!("// The cell above, with {} as given for this run.\n{source}", names.join(", ")),
        values,
    ))
}

fn wrong(path: &Path, name: &str, why: String) -> Error {
    Error::Parameter { notebook: path.to_owned(), name: name.to_owned(), why }
}

fn listed(declared: &[Declaration]) -> String {
    if declared.is_empty() {
        return "it has no line of the form `let NAME: TYPE = VALUE;`".to_owned();
    }
    let one = |declaration: &Declaration| match &declaration.ty {
        Some(ty) => format!("{}: {ty}", declaration.name),
        None => declaration.name.clone(),
    };
    format!("it has {}", declared.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn is_tagged(cell: &Value, tag: &str) -> bool {
    cell["metadata"]["tags"].as_array().is_some_and(|tags| tags.iter().any(|it| it == tag))
}

/// A cell's source; a file holds it as a text or as a list of lines.
fn source_of(cell: &Value) -> String {
    match &cell["source"] {
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        source => source.as_str().unwrap_or_default().to_owned(),
    }
}

/// An id that no cell has.
fn free_id(cells: &[Value]) -> String {
    let taken = |id: &String| cells.iter().any(|cell| cell["id"] == **id);
    let mut id = INJECTED.to_owned();
    while taken(&id) {
        id.push('-');
    }
    id
}

/// The value, which becomes a map if it was not one.
fn map(value: &mut Value) -> &mut Value {
    if !value.is_object() {
        *value = json!({});
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: &str = ":dep rand = \"0.9\"\n!ls\nlet layer: usize = 2; // of 4\nlet mut k: usize = 16;\nlet hook: HookPoint = HookPoint::resid_pre(layer);\nhook";

    fn pairs(given: &[(&str, &str)]) -> Vec<(String, String)> {
        given.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect()
    }

    fn file(cells: Value, minor: u64) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n.ipynb");
        let notebook = json!({ "cells": cells, "metadata": { "a": 1 }, "nbformat": 4, "nbformat_minor": minor });
        std::fs::write(&path, notebook.to_string()).unwrap();
        (folder, path)
    }

    fn code(source: &str, tag: &str) -> Value {
        json!({ "cell_type": "code", "id": tag, "metadata": { "tags": [tag] }, "source": source, "outputs": [], "execution_count": null })
    }

    fn error(cells: Value, given: &[(&str, &str)]) -> String {
        let (_folder, path) = file(cells, 5);
        inject(&path, &pairs(given)).unwrap_err().to_string()
    }

    #[test]
    fn the_copy_has_the_new_values_and_all_that_hangs_on_them() {
        let (source, values) = overridden(CELL, &pairs(&[("k", "8"), ("layer", "0")])).unwrap();
        let wanted = "// The cell above, with k, layer as given for this run.\nlet layer: usize = 0; // of 4\nlet mut k: usize = 8;\nlet hook: HookPoint = HookPoint::resid_pre(layer);\nhook";
        assert_eq!(source, wanted);
        assert_eq!(Value::from(values), json!({ "k": 8, "layer": 0 }));
    }

    #[test]
    fn the_notebook_gets_one_injected_cell_and_a_record() {
        let lines = json!(["let k: usize = 1;\n", "let a: String = String::new();"]);
        let mut declared = code("", DECLARED);
        declared["source"] = lines;
        let old = code("let k: usize = 3;", INJECTED);
        let text =
            json!({ "cell_type": "markdown", "id": INJECTED, "metadata": {}, "source": "text" });
        let (_folder, path) = file(json!([text, old, declared, old, code("k", "later")]), 5);
        let notebook = inject(&path, &pairs(&[("a", "so \"so\"")])).unwrap();
        let cells = notebook["cells"].as_array().unwrap();
        assert_eq!(cells.len(), 4);
        assert_eq!(cells.iter().filter(|cell| is_tagged(cell, INJECTED)).count(), 1);
        assert!(
            source_of(&cells[2])
                .ends_with("let k: usize = 1;\nlet a: String = \"so \\\"so\\\"\".to_owned();"),
            "{notebook}"
        );
        assert_eq!(cells[2]["id"], "injected-parameters-");
        assert_eq!(
            notebook["metadata"],
            json!({ "a": 1, "papermill": { "parameters": { "a": "so \"so\"" } } })
        );
    }

    #[test]
    fn older_notebooks_have_no_ids() {
        let (_folder, path) = file(json!([code("let k: usize = 1;", DECLARED)]), 4);
        assert!(inject(&path, &pairs(&[("k", "2")])).unwrap()["cells"][1].get("id").is_none());
    }

    #[test]
    fn what_is_wrong_is_said_with_what_there_is() {
        let cells = json!([code(CELL, DECLARED)]);
        let unknown = error(cells.clone(), &[("layer", "1"), ("kk", "3")]);
        assert!(
            unknown.contains("parameter kk")
                && unknown.contains("layer: usize, k: usize, hook: HookPoint"),
            "{unknown}"
        );
        let misfit = error(cells.clone(), &[("k", "many")]);
        assert!(
            misfit.contains("parameter k")
                && misfit.contains("usize")
                && misfit.contains("\"many\""),
            "{misfit}"
        );
        let twice = error(cells, &[("k", "1"), ("k", "2")]);
        assert!(twice.contains("twice"), "{twice}");
        let missing = error(json!([code("let k: usize = 1;", "other")]), &[("k", "1")]);
        assert!(missing.contains("\"tags\": [\"parameters\"]"), "{missing}");
        let none = error(json!([code("1 + 1", DECLARED)]), &[("k", "1")]);
        assert!(none.contains("let NAME: TYPE = VALUE;"), "{none}");
        let shadowed = error(
            json!([code("let k: &str = \"8\";\nlet k: usize = k.parse()?;", DECLARED)]),
            &[("k", "1")],
        );
        assert!(shadowed.contains("2 times"), "{shadowed}");
        let broken = error(json!([code("let k: &str = \"8;", DECLARED)]), &[("k", "1")]);
        assert!(broken.contains("closed"), "{broken}");
    }

    #[test]
    fn what_is_no_notebook_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n.ipynb");
        for text in ["", "no JSON", "[]", "{\"worksheets\": []}", "{\"cells\": 3}"] {
            std::fs::write(&path, text).unwrap();
            assert!(
                matches!(
                    inject(&path, &pairs(&[("k", "1")])),
                    Err(Error::Library(tokenized_sae::Error::Format { .. }))
                ),
                "{text}"
            );
        }
        for cell in
            [json!(3), json!({ "cell_type": "code", "metadata": { "tags": ["parameters"] } })]
        {
            std::fs::write(&path, json!({ "cells": [cell] }).to_string()).unwrap();
            assert!(
                matches!(inject(&path, &pairs(&[("k", "1")])), Err(Error::Parameter { .. })),
                "{cell}"
            );
        }
    }
}
