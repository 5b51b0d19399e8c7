//! Spoilt inputs, one after the other, and what must hold of each.
//!
//! An input follows from the seed of the whole, the reader's name and the input's number, so each
//! can be made again by itself.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use tokenized_sae::Error;

use super::memory;
use super::mutate::{self, Kind};

/// Inputs in all, if the environment does not say otherwise: about a minute on two cores.
const INPUTS: usize = 25_000;

/// No input takes a hundredth of it; what does has no end.
const PATIENCE: Duration = Duration::from_secs(60);

/// From this many bytes the report says how many times a file's size its reading took; for smaller
/// ones that says nothing.
const LARGE: usize = 32 << 10;

/// How many different faults of one reader are reported.
const TOLD: usize = 12;

/// Changes files so that they fit each other.
pub type Sign = fn(&mut BTreeMap<String, Vec<u8>>);

/// Files that can be read, by their names within a folder.
#[derive(Clone)]
pub struct Seed {
    pub files: BTreeMap<String, Vec<u8>>,
    /// Those of them that are spoilt, and what they are.
    pub targets: Vec<(String, Kind)>,
    /// Makes checksums right again that are meant against damage, not against malice.
    pub sign: Option<Sign>,
}

impl Seed {
    /// All files of a folder, of which those are spoilt that `kind` knows.
    pub fn of_folder(folder: &Path, kind: impl Fn(&str) -> Option<Kind>) -> Seed {
        let mut files = BTreeMap::new();
        collect(folder, folder, &mut files);
        let targets = files.keys().filter_map(|name| Some((name.clone(), kind(name)?))).collect();
        Seed { files, targets, sign: None }
    }

    /// One file.
    pub fn of_file(name: &str, kind: Kind, bytes: impl Into<Vec<u8>>) -> Seed {
        Seed {
            files: BTreeMap::from([(name.to_owned(), bytes.into())]),
            targets: vec![(name.to_owned(), kind)],
            sign: None,
        }
    }
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            files.insert(
                path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(),
                fs::read(&path).unwrap(),
            );
        }
    }
}

/// The kind of a file, by its name.
pub fn kind(name: &str) -> Option<Kind> {
    Some(match name.rsplit('.').next()? {
        "json" | "ipynb" => Kind::Json,
        "safetensors" => Kind::SafeTensors,
        "pt" | "bin" => Kind::Torch,
        _ => return None,
    })
}

/// A reader, and what it may take.
pub struct Reader {
    pub name: &'static str,
    /// Its part of all inputs, in hundredths.
    pub share: usize,
    /// Memory at the peak: this many times the files' size …
    pub times: usize,
    /// … and so much that does not depend on it.
    pub beside: usize,
    /// Words by which an error may say what it is about, beside names of files.
    pub also: &'static [&'static str],
}

/// The result of one input.
enum Outcome {
    Read,
    Refused,
    Fault(String),
}

static INPUT: Mutex<String> = Mutex::new(String::new());
static PANIC: Mutex<Option<(String, String)>> = Mutex::new(None);
static ARMED: AtomicBool = AtomicBool::new(false);
static ALONE: Mutex<()> = Mutex::new(());

/// Says on the standard error what ends the process, without allocating, and which input it was.
pub fn last_words(why: &fmt::Arguments<'_>) {
    if let Ok(input) = INPUT.try_lock() {
        let _ = writeln!(std::io::stderr(), "{why} at {input}");
    }
}

/// Keeps the words of a panic instead of printing them.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: nothing here reads the environment but by the standard library, which locks it.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var("TSAE_PROGRESS", "off");
        }
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !ARMED.load(Ordering::SeqCst) {
                return usual(info);
            }
            let thread = std::thread::current().name().unwrap_or_default().to_owned();
            let place = info.location().map_or(String::new(), ToString::to_string);
            let words =
                info.payload_as_str().unwrap_or("a panic").chars().take(300).collect::<String>();
            *PANIC.lock().unwrap() = Some((thread, format!("panic at {place}: {words}")));
        }));
    });
}

/// One test at a time, from before it makes its seeds: memory is counted over all threads.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A folder in memory, where there is one.
pub fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("tsae-hard-input-").tempdir_in(root).unwrap()
}

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}

impl Reader {
    /// Reads as many spoilt copies of the seeds as are asked for. `read` reads what lies in a
    /// folder and uses what it has read; it returns the error of reading, which must name a file.
    pub fn hammer(&self, seeds: &[Seed], read: impl Fn(&Path) -> Result<(), Error>) {
        listen();
        let scratch = scratch();
        for seed in seeds {
            let folder = scratch.path().join("whole");
            write(&folder, &seed.files);
            let (outcome, _) = self.one(&folder, seed, &read);
            let whole = seed.targets.first().map_or("", |(name, _)| name);
            match outcome {
                Outcome::Read => {}
                Outcome::Refused => {
                    panic!(
                        "{}: a seed with {whole} cannot be read: {:?}",
                        self.name,
                        read(&folder).map_err(|e| e.to_string())
                    )
                }
                Outcome::Fault(why) => panic!("{}: a seed with {whole}: {why}", self.name),
            }
            fs::remove_dir_all(&folder).unwrap();
        }
        let whole_seed = number("TSAE_FUZZ_SEED").unwrap_or(0) as u64;
        let first = number("TSAE_FUZZ_FIRST").unwrap_or(0);
        let inputs = (number("TSAE_FUZZ_INPUTS").unwrap_or(INPUTS) * self.share).div_ceil(100);
        let (mut n_read, mut most, mut worst) = (0, 0, 0.0f64);
        let mut faults: BTreeMap<String, String> = BTreeMap::new();
        let start = Instant::now();
        let watch = Watch::new();
        for i in first..first + inputs {
            let (seed, files) = self.input(seeds, whole_seed, i);
            let folder = scratch.path().join(i.to_string());
            write(&folder, &files);
            *INPUT.lock().unwrap() = format!(
                "input {i} of {} (TSAE_FUZZ_SEED={whole_seed}), kept in {}",
                self.name,
                folder.display()
            );
            watch.begin();
            let (outcome, taken) = self.one(&folder, seed, &read);
            watch.end();
            let bytes = files.values().map(Vec::len).sum::<usize>();
            most = most.max(taken);
            if bytes >= LARGE {
                worst = worst.max(taken as f64 / bytes as f64);
            }
            match outcome {
                Outcome::Read => n_read += 1,
                Outcome::Refused => {}
                Outcome::Fault(why) => {
                    let kind =
                        why.chars().filter(|c| !c.is_ascii_digit()).take(90).collect::<String>();
                    if faults.len() < TOLD && !faults.contains_key(&kind) {
                        let kept = keep(self.name, i, &files);
                        let again = format!(
                            "TSAE_FUZZ_SEED={whole_seed} TSAE_FUZZ_FIRST={i} TSAE_FUZZ_INPUTS=1"
                        );
                        faults.insert(
                            kind,
                            format!("input {i} ({again}; kept in {}): {why}", kept.display()),
                        );
                    }
                }
            }
            fs::remove_dir_all(&folder).unwrap();
        }
        drop(watch);
        println!(
            "{}: {inputs} inputs in {:.1} s, {:.1} % of them read; at most {:.2} MB, and {worst:.1} times files of {LARGE} bytes and more",
            self.name,
            start.elapsed().as_secs_f64(),
            100.0 * n_read as f64 / inputs.max(1) as f64,
            most as f64 / 1e6,
        );
        let told: Vec<String> = faults.into_values().collect();
        assert!(
            told.is_empty(),
            "{}: {} kinds of faults\n{}",
            self.name,
            told.len(),
            told.join("\n")
        );
    }

    /// The files of an input, and the seed that they are of.
    fn input<'a>(
        &self,
        seeds: &'a [Seed],
        whole_seed: u64,
        i: usize,
    ) -> (&'a Seed, BTreeMap<String, Vec<u8>>) {
        let digest = Sha256::new()
            .chain_update(whole_seed.to_le_bytes())
            .chain_update(self.name)
            .chain_update((i as u64).to_le_bytes())
            .finalize();
        let mut random = ChaCha8Rng::from_seed(digest.into());
        let seed = &seeds[random.random_range(0..seeds.len())];
        let mut files = seed.files.clone();
        let twice = if random.random_range(0..8) == 0 { 2 } else { 1 };
        for _ in 0..twice {
            let (name, kind) = &seed.targets[random.random_range(0..seed.targets.len())];
            let same = |(other, known): &(String, Kind), of: &'a Seed| {
                (known == kind).then(|| of.files.get(other).map(Vec::as_slice)).flatten()
            };
            let others: Vec<&[u8]> = seeds
                .iter()
                .flat_map(|of| of.targets.iter().filter_map(move |target| same(target, of)))
                .take(64)
                .collect();
            if let Some(bytes) = files.get_mut(name) {
                *bytes = mutate::spoilt(*kind, bytes, &others, &mut random);
            }
        }
        if random.random_range(0..50) == 0 {
            let (name, _) = &seed.targets[random.random_range(0..seed.targets.len())];
            files.remove(name);
        }
        if let Some(sign) = seed.sign.filter(|_| random.random_range(0..4) > 0) {
            sign(&mut files);
        }
        (seed, files)
    }

    /// Reads one folder. What is there afterwards, and how much memory it took at most.
    fn one(
        &self,
        folder: &Path,
        seed: &Seed,
        read: &impl Fn(&Path) -> Result<(), Error>,
    ) -> (Outcome, usize) {
        let bytes: u64 = seed
            .files
            .keys()
            .filter_map(|name| Some(folder.join(name).metadata().ok()?.len()))
            .sum();
        *PANIC.lock().unwrap() = None;
        ARMED.store(true, Ordering::SeqCst);
        let (outcome, taken) =
            memory::taken(|| panic::catch_unwind(AssertUnwindSafe(|| read(folder))));
        ARMED.store(false, Ordering::SeqCst);
        let panicked = PANIC.lock().unwrap().take();
        let outcome = match (outcome, panicked) {
            (Err(_), words) => {
                Outcome::Fault(words.map_or("a panic".to_owned(), |(_, words)| words))
            }
            // On a thread that nobody joins.
            (_, Some((thread, words))) if thread.starts_with("tsae") => Outcome::Fault(words),
            (Ok(outcome), _) => {
                let most = self.times * bytes as usize + self.beside;
                match outcome {
                    _ if taken > most => Outcome::Fault(format!(
                        "{taken} bytes of memory for files of {bytes}; {most} are allowed"
                    )),
                    Ok(()) => Outcome::Read,
                    Err(error) => self.named(&error, folder, seed),
                }
            }
        };
        (outcome, taken)
    }

    /// An error must say which file it is about.
    fn named(&self, error: &Error, folder: &Path, seed: &Seed) -> Outcome {
        let told = error.to_string();
        let file = |name: &String| name.rsplit('/').next().is_some_and(|last| told.contains(last));
        if told.contains(&folder.display().to_string())
            || seed.files.keys().any(file)
            || self.also.iter().any(|word| told.contains(word))
        {
            return Outcome::Refused;
        }
        Outcome::Fault(format!("an error that names no file: {told}"))
    }
}

fn write(folder: &Path, files: &BTreeMap<String, Vec<u8>>) {
    fs::create_dir_all(folder).unwrap();
    for (name, bytes) in files {
        let path = folder.join(name);
        if name.contains('/') {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        fs::write(path, bytes).unwrap();
    }
}

/// Where an input stays that a fault was found by.
fn keep(reader: &str, i: usize, files: &BTreeMap<String, Vec<u8>>) -> PathBuf {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("hard_input").join(format!("{reader}-{i}"));
    let _ = fs::remove_dir_all(&folder);
    write(&folder, files);
    folder
}

/// Ends the process if an input has no end.
struct Watch {
    since: Arc<Mutex<Option<Instant>>>,
    over: Arc<AtomicBool>,
}

impl Watch {
    fn new() -> Watch {
        let (since, over) =
            (Arc::new(Mutex::new(None::<Instant>)), Arc::new(AtomicBool::new(false)));
        let (seen, end) = (since.clone(), over.clone());
        std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(200));
                if seen.lock().unwrap().is_some_and(|since| since.elapsed() > PATIENCE) {
                    last_words(&format_args!("no end after {} s", PATIENCE.as_secs()));
                    std::process::abort();
                }
            }
        });
        Watch { since, over }
    }

    fn begin(&self) {
        *self.since.lock().unwrap() = Some(Instant::now());
    }

    fn end(&self) {
        *self.since.lock().unwrap() = None;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
