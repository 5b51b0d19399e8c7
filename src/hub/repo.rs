//! Names of repositories: what a person types, and what the hub calls it.

use std::fmt;

use crate::base::error::{Error, Result};

/// A repository of models or of data sets, as the hub's API and the cache's folders have it.
const MODELS: &str = "models";
const DATASETS: &str = "datasets";

/// A repository on the hub, at one of its revisions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Repo {
    pub(super) kind: &'static str,
    /// `organisation/name`, or only `name` for the hub's oldest models.
    pub id: String,
    /// A branch, a tag or a commit; `main` if none was named.
    pub revision: String,
}

const NO_NAME: &str =
    "is not a repository name: write organisation/name or organisation/name@revision";

/// The branch that is meant where none is named.
const MAIN: &str = "main";

/// The models that are older than organisations on the hub, and where the hub's redirects lead.
const LEGACY: [(&str, &str); 5] = [
    ("gpt2", "openai-community/gpt2"),
    ("gpt2-medium", "openai-community/gpt2-medium"),
    ("gpt2-large", "openai-community/gpt2-large"),
    ("gpt2-xl", "openai-community/gpt2-xl"),
    ("distilgpt2", "distilbert/distilgpt2"),
];

/// TransformerLens' short names that no rule gives.
const ALIASES: [(&str, &str); 9] = [
    ("gpt2-small", "gpt2"),
    ("gpt2-xs", "distilgpt2"),
    ("distil-gpt2", "distilgpt2"),
    ("distill-gpt2", "distilgpt2"),
    ("distillgpt2", "distilgpt2"),
    ("gpt-neox-20b", "EleutherAI/gpt-neox-20b"),
    ("gpt-neox", "EleutherAI/gpt-neox-20b"),
    ("neox", "EleutherAI/gpt-neox-20b"),
    ("pythia", "EleutherAI/pythia-70m"),
];

/// The sizes of Pythia, and what each was called at first.
const PYTHIA: [(&str, &str); 10] = [
    ("14m", ""),
    ("31m", ""),
    ("70m", "19m"),
    ("160m", "125m"),
    ("410m", "350m"),
    ("1b", "800m"),
    ("1.4b", "1.3b"),
    ("2.8b", "2.7b"),
    ("6.9b", "6.7b"),
    ("12b", "13b"),
];

impl Repo {
    /// The model that `name` means: `organisation/name`, one of the hub's oldest such as `gpt2`, or
    /// a short name of TransformerLens' such as `gpt2-small` or `pythia-70m`; each with `@revision`
    /// behind it, if a revision other than `main` is wanted.
    ///
    /// ```
    /// use tokenized_sae::hub::Repo;
    /// assert_eq!(Repo::model("pythia-70m@step3000")?.to_string(), "EleutherAI/pythia-70m@step3000");
    /// assert_eq!(Repo::model("gpt2-small")?.id, "gpt2");
    /// # Ok::<(), tokenized_sae::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownModel`] if that cannot be the name of a model.
    pub fn model(name: &str) -> Result<Repo> {
        let unknown = |why: &str| {
            let why = format!("{why}{}", did_you_mean(name));
            Error::UnknownModel { name: name.to_owned(), why }
        };
        let (id, revision) = parts(name).ok_or_else(|| unknown(&format!("that {NO_NAME}")))?;
        let id = resolved(&id);
        if !id.contains('/') && !LEGACY.iter().any(|(legacy, _)| *legacy == id) {
            return Err(unknown("write organisation/name for a model of the hub"));
        }
        Ok(Repo { kind: MODELS, id, revision })
    }

    /// The data set `organisation/name`, or `organisation/name@revision`.
    ///
    /// # Errors
    /// [`Error::Config`] if that cannot be the name of a data set.
    pub fn dataset(name: &str) -> Result<Repo> {
        let unknown = || Error::config("data set", format!("\"{name}\" {NO_NAME}"));
        let (id, revision) = parts(name).ok_or_else(unknown)?;
        Ok(Repo { kind: DATASETS, id, revision })
    }

    /// The address of its page, to which the addresses of its files are added.
    #[cfg(feature = "hub")]
    pub(super) fn page(&self, endpoint: &str) -> String {
        let kind = if self.kind == MODELS { "" } else { "datasets/" };
        format!("{endpoint}/{kind}{}", self.id)
    }

    /// The same repository at another revision.
    pub fn at(&self, revision: &str) -> Repo {
        Repo { revision: revision.to_owned(), ..self.clone() }
    }

    /// Its name on the hub as it is today, where every repository has an organisation.
    pub(crate) fn current_id(&self) -> &str {
        LEGACY.iter().find(|(old, _)| *old == self.id).map_or(&self.id, |(_, new)| new)
    }

    /// The same repository under each of the names that it may have in the cache, this one first.
    pub(super) fn also_known(&self) -> Vec<Repo> {
        let other = LEGACY.iter().find_map(|&(old, new)| match self.id.as_str() {
            id if id == old => Some(new),
            id if id == new => Some(old),
            _ => None,
        });
        let other = other.filter(|_| self.kind == MODELS);
        let other = other.map(|id| Repo { id: id.to_owned(), ..self.clone() });
        [self.clone()].into_iter().chain(other).collect()
    }
}

/// `organisation/name`, and `@revision` unless it is `main`.
impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        if self.revision == MAIN { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

/// The id and the revision of `id@revision`, if both are well formed.
fn parts(name: &str) -> Option<(String, String)> {
    let (id, revision) = name.split_once('@').unwrap_or((name, MAIN));
    let parts: Vec<&str> = id.split('/').collect();
    let is_well_formed = parts.len() <= 2
        && id.len() <= 96
        && parts.iter().all(|part| is_plain(part))
        && is_revision(revision);
    is_well_formed.then(|| (id.to_owned(), revision.to_owned()))
}

/// By the hub's rules: letters, digits, `-`, `_` and `.`; no `--` or `..`; neither `-` nor `.` at
/// an end.
fn is_plain(part: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let at_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    part.chars().all(inner)
        && at_end(part.chars().next())
        && at_end(part.chars().last())
        && !part.contains("--")
        && !part.contains("..")
}

/// A revision becomes part of a path (`refs/pr/1` is one): it must not lead out of its folder.
fn is_revision(revision: &str) -> bool {
    let step = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
            && !part.contains("..")
    };
    revision.split('/').all(step)
}

/// The hub's name for a short one; others stay as they are.
fn resolved(id: &str) -> String {
    if let Some((_, full)) = ALIASES.iter().find(|(alias, _)| *alias == id) {
        return (*full).to_owned();
    }
    let Some(rest) = id.strip_prefix("EleutherAI/").unwrap_or(id).strip_prefix("pythia-") else {
        return id.to_owned();
    };
    let (size, variant) = rest
        .split_once('-')
        .map_or((rest, String::new()), |(size, variant)| (size, format!("-{variant}")));
    match PYTHIA.iter().find(|(now, first)| *now == size || *first == size) {
        Some((now, _)) => format!("EleutherAI/pythia-{now}{variant}"),
        None => id.to_owned(),
    }
}

/// `; did you mean "gpt2"?` if a well-known model has nearly that name, or nothing.
pub(super) fn did_you_mean(name: &str) -> String {
    let short = |name: &str| {
        name.split('@').next().unwrap_or(name).rsplit('/').next().unwrap_or(name).to_lowercase()
    };
    let pythia = PYTHIA.iter().flat_map(|(size, _)| {
        ["", "-deduped"].map(|variant| format!("EleutherAI/pythia-{size}{variant}"))
    });
    let others = ["tiny-gpt2", "tiny-pythia"].into_iter().chain(LEGACY.map(|(old, _)| old));
    let known = others.map(str::to_owned).chain(pythia);
    let wanted = short(name);
    match known.map(|known| (distance(&short(&known), &wanted), known)).min() {
        Some((far, known)) if far <= wanted.chars().count() / 4 && known != name => {
            format!("; did you mean \"{known}\"?")
        }
        _ => String::new(),
    }
}

/// How many letters have to be changed, put in or taken out (Levenshtein).
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_transformer_lens_lead_to_the_repositories() {
        for (name, repo) in [
            ("gpt2", "gpt2"),
            ("gpt2-small", "gpt2"),
            ("gpt2-medium", "gpt2-medium"),
            ("distill-gpt2", "distilgpt2"),
            ("openai-community/gpt2", "openai-community/gpt2"),
            ("pythia", "EleutherAI/pythia-70m"),
            ("pythia-70m", "EleutherAI/pythia-70m"),
            ("pythia-19m-deduped", "EleutherAI/pythia-70m-deduped"),
            ("EleutherAI/pythia-1.3b", "EleutherAI/pythia-1.4b"),
            ("pythia-160m-seed1", "EleutherAI/pythia-160m-seed1"),
            ("pythia-1.4b-deduped-v0@step143000", "EleutherAI/pythia-1.4b-deduped-v0@step143000"),
            ("neox", "EleutherAI/gpt-neox-20b"),
            ("someone/pythia-13b", "someone/pythia-13b"),
            ("org/name@refs/pr/3", "org/name@refs/pr/3"),
            ("org/name@main", "org/name"),
        ] {
            assert_eq!(Repo::model(name).unwrap().to_string(), repo, "{name}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused_and_what_is_nearly_one_is_suggested() {
        let told = |name: &str| Repo::model(name).unwrap_err().to_string();
        for name in [
            "",
            "/",
            "../x",
            "a/b/c",
            "./gpt2",
            "/etc/passwd",
            "a b/c",
            "a/b@",
            "a/b@../x",
            "a/b@/x",
            "a/..",
            "a--b/c",
            "c:/models",
            "a\\b",
        ] {
            assert!(told(name).contains("not a repository name"), "{name}: {}", told(name));
        }
        assert!(told("my-model").contains("organisation/name"));
        assert!(!told("my-model").contains("did you mean"));
        assert!(told("tiny-gtp2").contains("did you mean \"tiny-gpt2\"?"));
        assert!(told("gtp2-medium").contains("did you mean \"gpt2-medium\"?"));
        assert_eq!(
            did_you_mean("EleutherAI/pythia-70"),
            "; did you mean \"EleutherAI/pythia-70m\"?"
        );
        assert_eq!(did_you_mean("gpt2"), "");
    }

    #[test]
    fn distances_are_counted_in_letters() {
        for (a, b, far) in [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("gpt2", "gpt2", 0),
            ("gpt2", "gtp2", 2),
        ] {
            assert_eq!(distance(a, b), far, "{a} {b}");
            assert_eq!(distance(b, a), far, "{b} {a}");
        }
    }

    #[test]
    fn an_old_name_and_its_redirect_are_one_repository() {
        let ids = |name: &str| {
            Repo::model(name)
                .unwrap()
                .also_known()
                .into_iter()
                .map(|repo| repo.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(ids("gpt2@x"), ["gpt2@x", "openai-community/gpt2@x"]);
        assert_eq!(ids("distilbert/distilgpt2"), ["distilbert/distilgpt2", "distilgpt2"]);
        assert_eq!(ids("org/name"), ["org/name"]);
    }
}
