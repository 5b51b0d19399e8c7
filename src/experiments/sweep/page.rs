//! A page of results: our tables beside the paper's.

use std::path::{Path, PathBuf};

use super::SweepResults;
use super::results::sweeps_in;
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::display::{Figure, Table};
use crate::eval::Measure;
use crate::experiments::paper;

/// Writes a page of Markdown on the sweeps in these folders, or right below them, to `out`, and
/// their figures to the folder of its name: `docs/results.md` and `docs/results/*.svg`. Beside our
/// figures stand the published ones.
///
/// # Errors
/// [`Error::Format`] if a folder holds no sweep, or if `out` does not end in `.md`; [`Error::Io`].
pub fn results_page(dirs: &[PathBuf], out: impl AsRef<Path>) -> Result<()> {
    let out = out.as_ref();
    if out.extension().is_none_or(|extension| extension != "md") {
        return Err(Error::format(out, "must be a Markdown page: give it a name that ends in .md"));
    }
    let mut sweeps = Vec::new();
    for dir in dirs {
        sweeps.extend(sweeps_in(dir)?);
    }
    let stem = out.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let figures = Figures { dir: out.with_extension(""), stem };
    let mut page = String::from(
        "# Results\n\nMade by `tsae results` from the folders of the runs named below. Figures are means over seeds, ± the standard deviation of one \
         seed; bars in the figures reach from the least to the greatest. What was published of GPT-2 small and Pythia-1.4B stands beside it; on \
         another model, on other text and after fewer tokens, what compares is how much a table changes, not the figures themselves.\n",
    );
    for dir in &sweeps {
        let name =
            dir.file_name().map_or("sweep".to_owned(), |name| name.to_string_lossy().into_owned());
        page += &section(&name, &SweepResults::open(dir)?, &figures)?;
    }
    page += "\n## Published\n";
    for table in [paper::pareto().table(), paper::speedups().table()] {
        page += &titled(&table);
    }
    if let Some(folder) = out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        files::create_folder(folder)?;
    }
    files::write_atomic(out, |to| to.write_all(page.as_bytes()))
}

/// Where the figures go, and how the page calls that place.
struct Figures {
    dir: PathBuf,
    stem: String,
}

impl Figures {
    /// Saves a figure, if there is one, and gives the line that shows it.
    fn line(&self, name: &str, figure: Result<Figure>) -> Result<String> {
        let Ok(figure) = figure else { return Ok(String::new()) };
        files::create_folder(&self.dir)?;
        let file: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
            .collect();
        figure.save(self.dir.join(format!("{file}.svg")))?;
        Ok(format!(
            "\n![{}]({}/{file}.svg)\n",
            figure.summary().replace(['[', ']'], ""),
            self.stem.replace(' ', "%20")
        ))
    }
}

fn section(name: &str, results: &SweepResults, figures: &Figures) -> Result<String> {
    let mut text = format!("\n## {name}\n");
    if results.runs.is_empty() {
        return Ok(text + "\nNo run is finished yet.\n");
    }
    text += &titled(&results.table());
    let varied = results.varied();
    let along_sparsity = varied.iter().any(|axis| axis != "lr" && axis != "expansion");
    if along_sparsity {
        text +=
            &figures.line(&format!("{name}-pareto"), results.pareto_beside(&paper::pareto()))?;
    }
    if results.baseline().is_some() {
        let changes = results.changes();
        if !changes.rows().is_empty() {
            text += &titled(&changes);
        }
        text += &figures
            .line(&format!("{name}-speedup"), results.speedups_beside(&paper::speedups()))?;
    }
    if results.has_hooks() {
        text += &figures.line(&format!("{name}-layers"), results.by_layer(Measure::Nmse))?;
    }
    Ok(text)
}

fn titled(table: &Table) -> String {
    format!("\n### {}\n\n{}", table.title(), table.markdown())
}
