//! SAEs by name: releases on the Hugging Face hub that people ask for, and any other there.
//!
//! A release's name and an SAE's in it are SAELens', where SAELens has them, and else the
//! repository's own. What is fetched goes into the Hugging Face cache, where a second call finds it.

use std::path::PathBuf;

use super::find;
use crate::base::error::{Error, Result};
use crate::hub::{Hub, Repo};

/// SAEs that somebody has published together. `{}` stands for one of the numbers.
struct Release {
    name: &'static str,
    /// Of an SAE within the release.
    id: &'static str,
    numbers: &'static [usize],
    repo: &'static str,
    /// Of the SAE's files in the repository.
    path: &'static str,
    what: &'static str,
}

const TO_5: &[usize] = &[0, 1, 2, 3, 4, 5];
const TO_11: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
const THREE: &[usize] = &[2, 6, 10];

/// Releases of SAELens' format whose SAEs are named after the hook.
macro_rules! at_hook {
    ($name:literal, $site:literal, $numbers:expr, $repo:literal, $path:literal, $what:literal) => {
        Release {
            name: $name,
            id: concat!("blocks.{}.", $site),
            numbers: $numbers,
            repo: $repo,
            path: $path,
            what: $what,
        }
    };
}

/// Releases whose SAEs are named by where they lie.
macro_rules! at_path {
    ($repo:literal, $path:literal, $numbers:expr, $what:literal) => {
        Release { name: $repo, id: $path, numbers: $numbers, repo: $repo, path: $path, what: $what }
    };
}

const BLOOM: &str = "Bloom's for GPT-2 small: ReLU, 24,576 latents";

#[rustfmt::skip]
const RELEASES: &[Release] = &[
    Release { name: "gpt2-small-res-jb", id: "blocks.{}.hook_resid_pre", numbers: TO_11, repo: "jbloom/GPT2-Small-SAEs-Reformatted", path: "blocks.{}.hook_resid_pre", what: BLOOM },
    Release { name: "gpt2-small-res-jb", id: "blocks.{}.hook_resid_post", numbers: &[11], repo: "jbloom/GPT2-Small-SAEs-Reformatted", path: "blocks.{}.hook_resid_post", what: BLOOM },
    at_hook!("gpt2-small-resid-post-v5-32k", "hook_resid_post", TO_11, "jbloom/GPT2-Small-OAI-v5-32k-resid-post-SAEs", "v5_32k_layer_{}.pt", "OpenAI's v5 for GPT-2 small, 32,768 latents"),
    at_hook!("gpt2-small-resid-post-v5-128k", "hook_resid_post", TO_11, "jbloom/GPT2-Small-OAI-v5-128k-resid-post-SAEs", "v5_128k_layer_{}", "OpenAI's v5 for GPT-2 small, 131,072 latents"),
    at_hook!("gpt2-small-resid-mid-v5-32k", "hook_resid_mid", TO_11, "jbloom/GPT2-Small-OAI-v5-32k-resid-mid-SAEs", "v5_32k_layer_{}", "OpenAI's v5, 32,768 latents"),
    at_hook!("gpt2-small-resid-mid-v5-128k", "hook_resid_mid", TO_11, "jbloom/GPT2-Small-OAI-v5-128k-resid-mid-SAEs", "v5_128k_layer_{}", "OpenAI's v5, 131,072 latents"),
    at_hook!("gpt2-small-attn-out-v5-32k", "hook_attn_out", TO_11, "jbloom/GPT2-Small-OAI-v5-32k-attn-out-SAEs", "v5_32k_layer_{}", "OpenAI's v5, 32,768 latents"),
    at_hook!("gpt2-small-attn-out-v5-128k", "hook_attn_out", TO_11, "jbloom/GPT2-Small-OAI-v5-128k-attn-out-SAEs", "v5_128k_layer_{}", "OpenAI's v5, 131,072 latents"),
    at_hook!("gpt2-small-mlp-out-v5-32k", "hook_mlp_out", TO_11, "jbloom/GPT2-Small-OAI-v5-32k-mlp-out-SAEs", "v5_32k_layer_{}", "OpenAI's v5, 32,768 latents"),
    at_hook!("gpt2-small-mlp-out-v5-128k", "hook_mlp_out", TO_11, "jbloom/GPT2-Small-OAI-v5-128k-mlp-out-SAEs", "v5_128k_layer_{}", "OpenAI's v5, 131,072 latents"),
    at_hook!("gpt2-small-res_sll-ajt", "hook_resid_pre", THREE, "neuronpedia/gpt2-small__res_sll-ajt", "{}-res_sll-ajt", "Apollo's for GPT-2 small: local, the end-to-end ones' baseline"),
    at_hook!("gpt2-small-res_slefr-ajt", "hook_resid_pre", THREE, "neuronpedia/gpt2-small__res_slefr-ajt", "{}-res_slefr-ajt", "Apollo's: end-to-end, at equal loss"),
    at_hook!("gpt2-small-res_scefr-ajt", "hook_resid_pre", THREE, "neuronpedia/gpt2-small__res_scefr-ajt", "{}-res_scefr-ajt", "Apollo's: end-to-end with downstream reconstruction, at equal loss"),
    at_hook!("gpt2-small-res_sle-ajt", "hook_resid_pre", THREE, "neuronpedia/gpt2-small__res_sle-ajt", "{}-res_sle-ajt", "Apollo's: end-to-end, at equal explained loss"),
    at_hook!("gpt2-small-res_sce-ajt", "hook_resid_pre", THREE, "neuronpedia/gpt2-small__res_sce-ajt", "{}-res_sce-ajt", "Apollo's: end-to-end with downstream reconstruction, at equal explained loss"),
    at_hook!("gpt2-small-res_scl-ajt", "hook_resid_pre", THREE, "neuronpedia/gpt2-small__res_scl-ajt", "{}-res_scl-ajt", "Apollo's: local, at equal explained loss"),
    at_hook!("pythia-70m-deduped-res-sm", "hook_resid_post", TO_5, "ctigges/pythia-70m-deduped__res-sm_processed", "{}-res-sm", "Marks and others' for Pythia 70M: ReLU, 32,768 latents"),
    at_path!("EleutherAI/sae-pythia-70m-32k", "layers.{}", TO_5, "EleutherAI's for Pythia 70M: TopK, 32,768 latents; layers.0.mlp and others too"),
    at_path!("EleutherAI/sae-pythia-160m-32k", "layers.{}", TO_11, "EleutherAI's for Pythia 160M: TopK, 32,768 latents; layers.0.mlp and others too"),
    at_path!("adamkarvonen/saebench_pythia-160m-deduped_width-2pow12_date-0108", "TopK_pythia-160m-deduped__0108/resid_post_layer_8/trainer_{}", TO_5, "SAEBench's for Pythia 160M deduped, 4,096 latents; also BatchTopK, JumpRelu, GatedSAE, Standard, PAnneal, MatryoshkaBatchTopK"),
    at_path!("adamkarvonen/saebench_pythia-160m-deduped_width-2pow14_date-0108", "TopK_pythia-160m-deduped__0108/resid_post_layer_8/trainer_{}", TO_5, "the same with 16,384 latents"),
    at_path!("adamkarvonen/saebench_pythia-160m-deduped_width-2pow16_date-0108", "TopK_pythia-160m-deduped__0108/resid_post_layer_8/trainer_{}", TO_5, "the same with 65,536 latents"),
];

impl Release {
    /// The number that makes an id of the template.
    fn number(&self, id: &str) -> Option<usize> {
        let (before, after) = self.id.split_once("{}")?;
        let number = id.strip_prefix(before)?.strip_suffix(after)?.parse().ok()?;
        self.numbers.contains(&number).then_some(number)
    }

    /// All its ids in one: `blocks.{0..11}.hook_resid_pre`.
    fn ids(&self) -> String {
        let numbers = match self.numbers {
            [only] => only.to_string(),
            [first, .., last] if last - first + 1 == self.numbers.len() => {
                format!("{{{first}..{last}}}")
            }
            some => {
                format!("{{{}}}", some.iter().map(usize::to_string).collect::<Vec<_>>().join(","))
            }
        };
        self.id.replace("{}", &numbers)
    }
}

/// How the name of any SAE on the hub begins, as `huggingface_hub` has it.
const HUB: &str = "hf://";

/// The names, repositories and descriptions of the releases that are known.
pub(super) fn releases() -> Vec<[String; 3]> {
    let line = |it: &Release| {
        [format!("{}/{}", it.name, it.ids()), it.repo.to_owned(), it.what.to_owned()]
    };
    RELEASES.iter().map(line).collect()
}

/// The folder of an SAE that goes by a name, fetched if it is not in the cache; `None` if that is
/// no name.
pub(super) fn fetch(name: &str, hub: &Hub) -> Result<Option<PathBuf>> {
    Ok(match place(name)? {
        Some((repo, path)) => Some(files(&repo, &path, hub)?),
        None => None,
    })
}

/// The repository, and where the SAE lies in it.
fn place(name: &str) -> Result<Option<(Repo, String)>> {
    if let Some(rest) = name.strip_prefix(HUB) {
        let parts: Vec<&str> = rest.splitn(3, '/').collect();
        let [owner, repo, path @ ..] = &parts[..] else {
            let why =
                format!("\"{name}\" names no repository: write {HUB}organisation/name/folder");
            return Err(Error::config("SAE", why));
        };
        let path = path.first().map_or("", |path| path.trim_end_matches('/'));
        return Ok(Some((Repo::model(&format!("{owner}/{repo}"))?, path.to_owned())));
    }
    let of = |release: &&Release| name.strip_prefix(release.name)?.strip_prefix('/');
    let Some(release) = RELEASES.iter().find(|release| of(release).is_some()) else {
        return Ok(None);
    };
    let within = RELEASES.iter().filter(|other| other.name == release.name);
    let id = of(&release).unwrap_or_default();
    for release in within.clone() {
        if let Some(number) = release.number(id) {
            let path = release.path.replace("{}", &number.to_string());
            return Ok(Some((Repo::model(release.repo)?, path)));
        }
    }
    // Of a repository under its own name, other folders are known to nobody but the hub.
    if release.name == release.repo {
        return Ok(Some((Repo::model(release.repo)?, id.to_owned())));
    }
    let ids: Vec<String> = within.map(Release::ids).collect();
    let why = format!("{} has no \"{id}\": it has {}", release.name, ids.join(" and "));
    Err(Error::config("SAE", why))
}

/// The folder, or the file, with what an SAE needs.
fn files(repo: &Repo, path: &str, hub: &Hub) -> Result<PathBuf> {
    let cached = hub.cached_by_each_name(repo).into_iter();
    if let Some(there) =
        cached.map(|snapshot| snapshot.folder.join(path)).find(|place| find::find(place).is_ok())
    {
        return Ok(there);
    }
    download(repo, path, hub)
}

#[cfg(feature = "hub")]
fn download(repo: &Repo, path: &str, hub: &Hub) -> Result<PathBuf> {
    let listing = hub.list(repo)?;
    let folder_of = |file: &str| file.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
    let name_of = |file: &str| file.rsplit('/').next().unwrap_or(file).to_owned();
    let all = listing.files.iter().map(String::as_str);
    let (wanted, folder) = match listing.has(path) {
        true => (Some(path), folder_of(path)),
        false => (None, path.to_owned()),
    };
    let files: Vec<&str> = all
        .clone()
        .filter(|file| {
            let part = find::part(&name_of(file));
            let is_wanted = wanted.is_none_or(|wanted| *file == wanted || part == Some(false));
            folder_of(file) == folder && part.is_some() && is_wanted
        })
        .collect();
    if !files.iter().any(|file| find::part(&name_of(file)) == Some(true)) {
        let mut others: Vec<String> =
            all.filter(|file| find::part(&name_of(file)) == Some(true)).map(folder_of).collect();
        others.dedup();
        let why = format!("has no SAE at \"{path}\": it has {}", find::listed(&others));
        return Err(Error::Hub { repo: repo.to_string(), endpoint: hub.endpoint.clone(), why });
    }
    Ok(hub.download(&listing, &files)?.folder.join(path))
}

#[cfg(not(feature = "hub"))]
fn download(repo: &Repo, path: &str, hub: &Hub) -> Result<PathBuf> {
    let why = hub.may_download().err().unwrap_or_default();
    Err(Error::config("SAE", format!("{repo}/{path} is not in the Hugging Face cache; {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(name: &str) -> Option<(String, String)> {
        place(name).unwrap().map(|(repo, path)| (repo.to_string(), path))
    }

    #[test]
    fn names_lead_to_their_place_in_a_repository() {
        let pair = |repo: &str, path: &str| Some((repo.to_owned(), path.to_owned()));
        assert_eq!(
            placed("gpt2-small-res-jb/blocks.8.hook_resid_pre"),
            pair("jbloom/GPT2-Small-SAEs-Reformatted", "blocks.8.hook_resid_pre")
        );
        assert_eq!(
            placed("gpt2-small-res-jb/blocks.11.hook_resid_post"),
            pair("jbloom/GPT2-Small-SAEs-Reformatted", "blocks.11.hook_resid_post")
        );
        assert_eq!(
            placed("gpt2-small-resid-post-v5-32k/blocks.0.hook_resid_post"),
            pair("jbloom/GPT2-Small-OAI-v5-32k-resid-post-SAEs", "v5_32k_layer_0.pt")
        );
        assert_eq!(
            placed("gpt2-small-res_scefr-ajt/blocks.6.hook_resid_pre"),
            pair("neuronpedia/gpt2-small__res_scefr-ajt", "6-res_scefr-ajt")
        );
        let eleuther = "EleutherAI/sae-pythia-70m-32k";
        assert_eq!(placed(&format!("{eleuther}/layers.3.mlp")), pair(eleuther, "layers.3.mlp"));
        assert_eq!(
            placed("hf://someone/saes@v2/deep/in/it/"),
            pair("someone/saes@v2", "deep/in/it")
        );
        assert_eq!(placed("hf://someone/sae"), pair("someone/sae", ""));
        for other in ["results/TSAE", "gpt2-small-res-jb", "gpt2-small-res-jb2/blocks.0.hook_z", ""]
        {
            assert_eq!(placed(other), None, "{other}");
        }
    }

    #[test]
    fn an_id_that_a_release_lacks_is_told_what_there_is() {
        for (wrong, told) in [
            (
                "gpt2-small-res-jb/blocks.12.hook_resid_pre",
                "blocks.{0..11}.hook_resid_pre and blocks.11.hook_resid_post",
            ),
            ("gpt2-small-res_sle-ajt/blocks.3.hook_resid_pre", "blocks.{2,6,10}.hook_resid_pre"),
            ("hf://alone", "hf://organisation/name"),
        ] {
            let error = place(wrong).err().unwrap().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn every_release_names_a_repository_and_each_id_once() {
        let mut seen = std::collections::HashSet::new();
        for release in RELEASES {
            assert!(Repo::model(release.repo).is_ok(), "{}", release.repo);
            assert_eq!(
                (release.id.matches("{}").count(), release.path.matches("{}").count()),
                (1, 1)
            );
            for number in release.numbers {
                let id = release.id.replace("{}", &number.to_string());
                assert_eq!(release.number(&id), Some(*number));
                assert!(seen.insert(format!("{}/{id}", release.name)), "{id} twice");
            }
        }
        assert_eq!(releases().len(), RELEASES.len());
    }
}
