//! A cache, written.

use std::borrow::Cow;
use std::fs;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use serde_json::json;

use super::TOKEN_IDS;
use crate::activations::shard::{Mapped, widen};
use crate::activations::{ActivationStore, Dtype};
use crate::base::error::{Error, Result};
use crate::base::files::{AtomicFile, create_folder, sha256, write_atomic};
use crate::display::{Progress, interrupt};
use crate::formats::arrow::{self, Column, List, Number};
use crate::model::HookPoint;

/// Bytes that are written between two looks at the stop button.
const STRETCH: usize = 8 << 20;

const OTHERS: &str =
    "exists already, for other activations: choose another folder, or move it away";

/// What has to be said of every file: how it begins, and which rows are in it.
struct Plan {
    columns: [Column; 2],
    /// The message of the schema.
    start: Vec<u8>,
    n_ctx: usize,
    d_model: usize,
    /// The most sequences whose numbers offsets of 32 bits can count.
    most: usize,
}

impl ActivationStore {
    /// Writes the activations of `hook` to the folder `dir` as SAELens caches them, tokens and all,
    /// for its `cached_activations_path` and for `datasets.load_from_disk`. A row is a sequence;
    /// numbers stay in the width that the store has.
    ///
    /// In SAELens, `context_size` is this store's `n_ctx`, and `d_in` its `d_model`. A killed
    /// export continues with the first file that is not there.
    ///
    /// ```no_run
    /// # use tokenized_sae::prelude::*;
    /// let acts = ActivationStore::open("cache/gpt2")?;
    /// acts.export_saelens("blocks.8.hook_resid_pre".parse()?, "cached_activations/gpt2")?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownHook`]; [`Error::Format`] if `dir` holds something else; [`Error::Checksum`]
    /// if a shard is damaged; [`Error::Interrupted`]; [`Error::Io`].
    pub fn export_saelens(&self, hook: HookPoint, dir: impl AsRef<Path>) -> Result<()> {
        let (dir, place) = (dir.as_ref(), self.place(hook)?);
        self.verify_all(&[place])?;
        let plan = Plan::new(self, hook, dir)?;
        create_folder(dir)?;
        let n = self.inner.shards.len();
        let name = |index: usize| format!("data-{index:05}-of-{n:05}.arrow");
        let names: Vec<String> = (0..n).map(name).collect();
        refuse_others(dir, &names)?;

        interrupt::watch();
        interrupt::clear();
        let mut progress = Progress::new("export", self.n_rows() as u64, "tokens");
        let mut done = 0;
        for (shard, name) in self.inner.shards.iter().zip(&names) {
            let shard = shard.map()?;
            plan.write(&shard, (self.dtype(), place), &dir.join(name))?;
            done += shard.tokens().len();
            progress.set(done as u64);
        }
        let info = json!({
            "citation": "",
            "description": format!("Activations of {} (weights: {}) at {hook}", self.model_name(), self.processing()),
            "features": plan.features(),
            "homepage": "",
            "license": "",
        });
        write_json(&dir.join("dataset_info.json"), &info)?;
        // Last, because it says that all is there.
        let state = json!({
            "_data_files": names.iter().map(|name| json!({ "filename": name })).collect::<Vec<_>>(),
            "_fingerprint": &sha256(format!("{}\n{hook}", self.fingerprint()).as_bytes())[..16],
            "_format_columns": null,
            "_format_kwargs": {},
            "_format_type": null,
            "_output_all_columns": false,
            "_split": null,
        });
        write_json(&dir.join("state.json"), &state)?;
        progress.finish();
        Ok(())
    }
}

impl Plan {
    fn new(store: &ActivationStore, hook: HookPoint, dir: &Path) -> Result<Plan> {
        let (n_ctx, d_model) = (store.n_ctx(), store.d_model());
        let number = if store.dtype() == Dtype::F16 { Number::F16 } else { Number::F32 };
        let columns = [
            Column { name: hook.to_string(), lists: vec![List::Offsets; 2], number },
            Column { name: TOKEN_IDS.into(), lists: vec![List::Fixed(n_ctx)], number: Number::I32 },
        ];
        let most = n_ctx.checked_mul(d_model).map_or(0, |row| i32::MAX as usize / row);
        if most == 0 {
            let why = format!(
                "sequences of {n_ctx} rows of {d_model} numbers are too long for Arrow's lists"
            );
            return Err(Error::format(dir, why));
        }
        let mut plan = Plan { columns, start: Vec::new(), n_ctx, d_model, most };
        let [acts, ids] = plan.columns.clone();
        let extension = vec![
            ("ARROW:extension:name", "datasets.features.features.Array2DExtensionType".to_owned()),
            ("ARROW:extension:metadata", json!([[n_ctx, d_model], plan.dtype()]).to_string()),
        ];
        let metadata = vec![
            ("huggingface", json!({ "info": { "features": plan.features() } }).to_string()),
            // Tells the files of one store from those of another.
            ("tokenized_sae", store.fingerprint().to_owned()),
        ];
        plan.start = arrow::schema(&[(acts, extension), (ids, Vec::new())], &metadata);
        Ok(plan)
    }

    /// NumPy's name of the numbers.
    fn dtype(&self) -> &'static str {
        if self.columns[0].number == Number::F16 { "float16" } else { "float32" }
    }

    /// The columns in `datasets`' words.
    fn features(&self) -> serde_json::Value {
        json!({
            &self.columns[0].name: { "shape": [self.n_ctx, self.d_model], "dtype": self.dtype(), "_type": "Array2D" },
            TOKEN_IDS: { "feature": { "dtype": "int32", "_type": "Value" }, "length": self.n_ctx, "_type": "List" },
        })
    }

    /// Writes the file of a shard, if it is not there.
    fn write(&self, shard: &Mapped<'_>, (dtype, place): (Dtype, usize), path: &Path) -> Result<()> {
        let n_seq = shard.tokens().len() / self.n_ctx;
        let shapes: [&[usize]; 2] = [&[self.n_ctx, self.d_model], &[self.n_ctx]];
        let mut batches: Vec<(Range<usize>, arrow::Batch)> = Vec::new();
        for from in (0..n_seq).step_by(self.most) {
            let of = from..n_seq.min(from + self.most);
            let Some(batch) = arrow::Batch::new(&self.columns, &shapes, of.len()) else {
                let why = "would have more numbers than Arrow's lists can count";
                return Err(Error::format(path, why));
            };
            batches.push((of, batch));
        }
        let messages: u64 =
            batches.iter().map(|(_, batch)| batch.head.len() as u64 + batch.body).sum();
        let bytes = self.start.len() as u64 + messages + arrow::end().len() as u64;
        if path.exists() {
            return self.check(path, bytes);
        }
        let mut out = AtomicFile::create(path)?;
        out.write_at(0, &self.start)?;
        let mut at = self.start.len() as u64;
        let (tokens, rows) = (bytemuck::cast_slice::<u32, u8>(shard.tokens()), shard.hook(place));
        for (of, batch) in batches {
            out.write_at(at, &batch.head)?;
            let body = at + batch.head.len() as u64;
            for (place, offsets) in &batch.offsets {
                out.write_at(body + place, offsets)?;
            }
            let row = dtype.row_bytes(self.d_model);
            let part = |row: usize| of.start * self.n_ctx * row..of.end * self.n_ctx * row;
            let whole_rows = (STRETCH / row).max(1) * row;
            let acts = rows[part(row)].chunks(whole_rows);
            let acts = acts.map(|rows| numbers(dtype, self.d_model, rows));
            let ids = tokens[part(4)].chunks(STRETCH).map(Cow::Borrowed);
            let columns: [&mut dyn Iterator<Item = Cow<'_, [u8]>>; 2] =
                [&mut { acts }, &mut { ids }];
            for (stretches, place) in columns.into_iter().zip(&batch.numbers) {
                let mut to = body + place.start;
                for stretch in stretches {
                    if interrupt::requested() {
                        interrupt::clear();
                        let remedy = "the files that are complete are kept, and the same call continues from there".to_owned();
                        return Err(Error::Interrupted { what: "the export", remedy });
                    }
                    out.write_at(to, &stretch)?;
                    to += stretch.len() as u64;
                }
            }
            at = body + batch.body;
        }
        out.write_at(at, &arrow::end())?;
        out.commit()
    }

    /// Checks that a file that is there is the one that would be written: files appear whole or not
    /// at all, so its length and its start tell.
    fn check(&self, path: &Path, bytes: u64) -> Result<()> {
        let mut start = Vec::new();
        let file = fs::File::open(path).map_err(Error::io("read", path))?;
        let there = file.metadata().map_err(Error::io("read", path))?.len();
        file.take(self.start.len() as u64)
            .read_to_end(&mut start)
            .map_err(Error::io("read", path))?;
        if there != bytes || start != self.start {
            return Err(Error::format(path, OTHERS));
        }
        Ok(())
    }
}

/// Stored rows as the column has them: as they are, but for those of 8 bits, for which Arrow has no
/// numbers.
fn numbers(dtype: Dtype, d_model: usize, rows: &[u8]) -> Cow<'_, [u8]> {
    if dtype != Dtype::Int8 {
        return Cow::Borrowed(rows);
    }
    let row = dtype.row_bytes(d_model);
    let mut wide = vec![0f32; rows.len() / row * d_model];
    let pairs = rows.chunks_exact(row).zip(wide.chunks_exact_mut(d_model));
    pairs.for_each(|(row, wide)| widen(dtype, row, wide));
    Cow::Owned(bytemuck::cast_slice(&wide).to_vec())
}

/// Refuses a folder with files that are not part of this export.
fn refuse_others(dir: &Path, names: &[String]) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let name = entry.map_err(Error::io("read", dir))?.file_name();
        let name = name.to_string_lossy().into_owned();
        let ours = name.starts_with('.')
            || ["state.json", "dataset_info.json"].contains(&name.as_str())
            || names.contains(&name);
        if !ours {
            let why = format!("holds something else already ({name}): choose an empty folder");
            return Err(Error::format(dir, why));
        }
    }
    Ok(())
}

/// Writes a JSON file unless it is there as it would be.
fn write_json(path: &Path, value: &serde_json::Value) -> Result<()> {
    let text = serde_json::to_vec_pretty(value).map_err(Error::json(path.display()))?;
    match fs::read(path) {
        Ok(there) if there == text => Ok(()),
        Ok(_) => Err(Error::format(path, OTHERS)),
        Err(_) => write_atomic(path, |out| out.write_all(&text)),
    }
}
