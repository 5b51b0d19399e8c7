//! Data sets of the Hugging Face hub: which of a repository's files hold the text.
//!
//! A repository is a folder of files, and the hub's viewer has the rules by which they are sorted
//! into configurations and splits. The ones that matter are kept here: a split is named in a file's
//! path (`data/train-00000-of-00041.parquet`, `train/00.jsonl.zst`), a configuration is a folder
//! (`20231101.en/…`, `sample/10BT/…`). A data set without such files is taken from the branch
//! `refs/convert/parquet`, where the hub keeps a copy of many as parquet files.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::few;
use super::find::{files_below, name_below};
use super::form::{Form, TextFormat};
use super::remote::Remote;
use super::source_file::{SourceFile, order};
use crate::base::error::{Error, Result};
use crate::hub::{Hub, Repo, Snapshot};

/// What stands before the name of a data set where a pattern of files could stand too.
pub const PREFIX: &str = "hub:";
/// Where the hub keeps its parquet files.
const CONVERTED: &str = "refs/convert/parquet";
/// The split that is meant where none is named.
const TRAIN: &str = "train";
/// What splits are called: where no file is of one of them, all are for training.
const SPLITS: [&str; 9] =
    [TRAIN, "training", "test", "testing", "validation", "valid", "val", "dev", "eval"];

/// A data set, one of its configurations, and one of its splits.
#[derive(Debug, PartialEq)]
struct Name {
    repo: Repo,
    config: Option<String>,
    split: String,
}

/// The files of the data set `ORG/NAME[@REVISION][:CONFIGURATION[:SPLIT]]`. None of them is fetched
/// yet.
///
/// # Errors
/// [`Error::Config`] if that is not the name of one, or leaves open which configuration is meant;
/// [`Error::EmptyCorpus`] if it has no file that is read; [`Error::Hub`].
pub fn find(name: &str, hub: &Hub) -> Result<Vec<SourceFile>> {
    let name = parse(name)?;
    let mut snapshot = listed(&name.repo, hub)?;
    let mut chosen = choose(&name, &snapshot.files)?;
    if chosen.is_empty() && name.repo == name.repo.at("main") {
        match listed(&name.repo.at(CONVERTED), hub) {
            Ok(converted) => {
                chosen = choose(&name, &converted.files)?;
                snapshot = converted;
            }
            Err(stopped @ Error::Interrupted { .. }) => return Err(stopped),
            // There is no such branch: report what the data set itself lacks.
            Err(_) => {}
        }
    }
    if chosen.is_empty() {
        return Err(Error::EmptyCorpus { why: none_of(&name, &snapshot.files) });
    }
    let folder = snapshot.folder.clone();
    let remote = Arc::new(Remote {
        #[cfg(feature = "hub")]
        hub: hub.clone(),
        snapshot,
    });
    let file = |name: String| {
        let (path, form) = (folder.join(&name), Form::known(Path::new(&name))?);
        Some(SourceFile { path, form, name, bytes: 0, remote: Some(remote.clone()) })
    };
    let mut found: Vec<SourceFile> = chosen.into_iter().filter_map(file).collect();
    order(&mut found, 0);
    Ok(found)
}

fn parse(name: &str) -> Result<Name> {
    let mut parts = name.strip_prefix(PREFIX).unwrap_or(name).splitn(3, ':');
    let repo = Repo::dataset(parts.next().unwrap_or_default())?;
    let mut next = || parts.next().map(str::trim).filter(|part| !part.is_empty());
    Ok(Name {
        repo,
        config: next().map(|config| config.trim_matches('/').to_owned()),
        split: next().unwrap_or(TRAIN).to_owned(),
    })
}

/// The files of a repository: what the hub lists, or offline what lies in the cache.
fn listed(repo: &Repo, hub: &Hub) -> Result<Snapshot> {
    #[cfg(feature = "hub")]
    if hub.may_download().is_ok() {
        return hub.list(repo);
    }
    let why = hub.may_download().err().unwrap_or_default();
    let Some(mut snapshot) = hub.cached(repo) else {
        return Err(Error::Hub {
            repo: repo.to_string(),
            endpoint: hub.endpoint.clone(),
            why: format!("it is not in the cache, and {why}"),
        });
    };
    let parts = snapshot.folder.components().count();
    let files = files_below(&snapshot.folder, &|_| true)?;
    snapshot.files = files.iter().map(|path| name_below(path, parts)).collect();
    Ok(snapshot)
}

/// The files that hold the split of the configuration, parquet files if there are any.
///
/// # Errors
/// [`Error::Config`] if there are several configurations and none was named.
fn choose(name: &Name, files: &[String]) -> Result<Vec<String>> {
    let in_config = |file: &&String| match &name.config {
        Some(config) => format!("/{file}").contains(&format!("/{config}/")),
        None => true,
    };
    let mut data: Vec<&String> =
        files.iter().filter(|file| is_data(file)).filter(in_config).collect();
    let any_split = data.iter().any(|file| SPLITS.iter().any(|split| names_split(file, split)));
    data.retain(|file| names_split(file, &name.split) || (!any_split && name.split == TRAIN));
    let is_table = |file: &str| kind_of(file) == Some(TextFormat::Parquet);
    let tables = data.iter().any(|file| is_table(file));
    data.retain(|file| is_table(file) == tables);
    if name.config.is_none() {
        let configs: BTreeSet<&str> = data.iter().map(|file| config_of(file)).collect();
        let meant = match configs.len() {
            0 | 1 => configs.first().copied(),
            _ => ["", "default"].into_iter().find(|config| configs.contains(config)),
        };
        match (meant, configs.first()) {
            (None, Some(first)) => {
                let (id, all) = (&name.repo, few(configs.iter(), 12));
                let why = format!(
                    "{id} has several configurations: add one of them to its name, as in \"{id}:{first}\"; it has {all}"
                );
                return Err(Error::config("data set", why));
            }
            (meant, _) => data.retain(|file| Some(config_of(file)) == meant),
        }
    }
    Ok(data.into_iter().cloned().collect())
}

/// Whether text may lie in a file. A `.json` file that names no split holds settings.
fn is_data(file: &str) -> bool {
    let lower = file.to_ascii_lowercase();
    let json = lower.trim_end_matches(".gz").trim_end_matches(".zst").ends_with(".json");
    let hidden = file.split('/').any(|part| part.starts_with('.'));
    !hidden
        && matches!(kind_of(file), Some(TextFormat::Json | TextFormat::Parquet))
        && (!json || SPLITS.iter().any(|split| names_split(file, split)))
}

fn kind_of(file: &str) -> Option<TextFormat> {
    Form::known(Path::new(file)).map(|form| form.kind)
}

/// Whether a path names a split: as a word of its own, and not as the beginning of a longer name,
/// as `train_sft` is.
fn names_split(file: &str, split: &str) -> bool {
    let lower = file.to_ascii_lowercase();
    let split = split.to_ascii_lowercase();
    lower.match_indices(&split).any(|(at, _)| {
        let before = lower[..at].chars().next_back();
        let mut after = lower[at + split.len()..].chars();
        let (next, second) = (after.next(), after.next());
        let begins = before.is_none_or(|c| !c.is_alphanumeric());
        let ends = match next {
            None => true,
            Some('_') => second.is_none_or(|c| !c.is_alphabetic()),
            Some(c) => !c.is_alphabetic(),
        };
        begins && ends
    })
}

/// The configuration that a file belongs to: its first folder, unless that is `data` or names a
/// split.
fn config_of(file: &str) -> &str {
    match file.split_once('/') {
        Some((folder, _))
            if folder != "data" && !SPLITS.iter().any(|split| names_split(folder, split)) =>
        {
            folder
        }
        _ => "",
    }
}

fn none_of(name: &Name, files: &[String]) -> String {
    let Name { repo, config, split } = name;
    let config = config
        .as_ref()
        .map_or(String::new(), |config| format!(" of the configuration \"{config}\""));
    let there = if files.is_empty() { "no files".to_owned() } else { few(files, 12) };
    format!(
        "{repo} has no .parquet or .jsonl file{config} for the split \"{split}\"; it has {there}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(name: &str, files: &[&str]) -> Vec<String> {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        choose(&parse(name).unwrap(), &files).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn names_have_a_revision_a_configuration_and_a_split_if_wanted() {
        let name = parse("hub:org/set@refs/pr/1:sample/10BT:test").unwrap();
        assert_eq!(
            (name.repo.to_string(), name.config, name.split),
            ("org/set@refs/pr/1".into(), Some("sample/10BT".into()), "test".into())
        );
        let name = parse("org/set::validation").unwrap();
        assert_eq!((name.config, name.split.as_str()), (None, "validation"));
        assert_eq!(parse("imdb").unwrap().split, "train");
        assert!(parse("a b/c").is_err());
    }

    /// As these repositories are laid out.
    #[test]
    fn the_files_of_well_known_layouts_are_found() {
        let pile = [
            "README.md",
            "train/00.jsonl.zst",
            "train/01.jsonl.zst",
            "val.jsonl.zst",
            "test.jsonl.zst",
        ];
        assert_eq!(
            chosen("monology/pile-uncopyrighted", &pile),
            ["train/00.jsonl.zst", "train/01.jsonl.zst"]
        );
        assert_eq!(chosen("monology/pile-uncopyrighted::val", &pile), ["val.jsonl.zst"]);
        let pushed = [
            "data/train-00000-of-00002.parquet",
            "data/train-00001-of-00002.parquet",
            "data/test-00000-of-00001.parquet",
            "dataset_infos.json",
        ];
        assert_eq!(chosen("org/set", &pushed), pushed[..2]);
        let fineweb = [
            "data/CC-MAIN-2013-20/000_00000.parquet",
            "data/CC-MAIN-2024-10/000_00000.parquet",
            "sample/10BT/000_00000.parquet",
        ];
        assert_eq!(chosen("HuggingFaceFW/fineweb", &fineweb), fineweb[..2]);
        assert_eq!(chosen("HuggingFaceFW/fineweb:sample/10BT", &fineweb), fineweb[2..]);
        assert_eq!(chosen("HuggingFaceFW/fineweb:CC-MAIN-2024-10", &fineweb), fineweb[1..2]);
        let c4 = [
            "en/c4-train.00000-of-01024.json.gz",
            "en/c4-validation.00000-of-00008.json.gz",
            "realnewslike/c4-train.00000-of-00512.json.gz",
        ];
        assert_eq!(chosen("allenai/c4:en", &c4), c4[..1]);
        let converted = [
            "default/partial-train/0000.parquet",
            "default/test/0000.parquet",
            "other/train/0000.parquet",
        ];
        assert_eq!(chosen("org/set", &converted), converted[..1]);
        let chat =
            ["data/train_sft-00000-of-00001.parquet", "data/train_gen-00000-of-00001.parquet"];
        assert_eq!(chosen("org/chat::train_sft", &chat), chat[..1]);
        let unsorted = ["part-0.jsonl", "part-1.jsonl", "config.json", ".data/x.jsonl"];
        assert_eq!(chosen("org/set", &unsorted), unsorted[..2]);
        let both = ["train.jsonl", "data/train-0.parquet"];
        assert_eq!(chosen("org/set", &both), both[1..]);
        assert_eq!(chosen("org/set", &["README.md", "train.csv"]), [""; 0]);
    }

    #[test]
    fn several_configurations_are_listed() {
        let wikipedia = [
            "20231101.ab/train-00000-of-00001.parquet",
            "20231101.en/train-00000-of-00041.parquet",
        ]
        .map(str::to_owned);
        let told =
            choose(&parse("wikimedia/wikipedia").unwrap(), &wikipedia).unwrap_err().to_string();
        assert!(
            told.contains("\"wikimedia/wikipedia:20231101.ab\"") && told.contains("20231101.en"),
            "{told}"
        );
        assert_eq!(
            choose(&parse("wikimedia/wikipedia:20231101.en").unwrap(), &wikipedia).unwrap(),
            wikipedia[1..]
        );
    }
}
