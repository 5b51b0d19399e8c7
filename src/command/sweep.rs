//! `tsae sweep` and `tsae results`.

use std::path::PathBuf;

use tokenized_sae::display::interrupt;
use tokenized_sae::error::Result;
use tokenized_sae::sweep::{SweepFile, results_page};

/// Trains and evaluates a grid of SAEs.
#[derive(clap::Args)]
pub struct Sweep {
    /// The description: TOML, or JSON if its name ends in .json.
    file: PathBuf,
    /// Where everything goes: the activations, and a folder for each run. Several processes may work in it at once.
    #[arg(long)]
    out: PathBuf,
    /// Only the Ith of N equal shares of the runs, in their order.
    #[arg(long, value_name = "I/N", value_parser = share)]
    only: Option<(usize, usize)>,
    /// Only print the commands that run it in N shares (by default one for each hook and seed), for a cluster's job list.
    #[arg(long, value_name = "N", num_args = 0..=1, conflicts_with = "only")]
    list: Option<Option<usize>>,
    /// Let runs that train together take so many GB of memory, instead of three quarters of what is free.
    #[arg(long, value_name = "GB")]
    memory: Option<f64>,
}

/// Writes a page on sweeps.
#[derive(clap::Args)]
pub struct Results {
    /// Folders that sweeps were run in, or with such folders right below.
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    /// The page, a name that ends in .md; its figures go to a folder of the same name beside it.
    #[arg(long)]
    out: PathBuf,
}

/// `I/N`.
fn share(text: &str) -> std::result::Result<(usize, usize), String> {
    let parts = text.split_once('/').and_then(|(i, n)| Some((i.trim().parse().ok()?, n.trim().parse().ok()?)));
    parts.filter(|&(i, n)| 1 <= i && i <= n).ok_or_else(|| "write it as I/N, from 1/N to N/N".to_owned())
}

impl Sweep {
    /// Runs the sweep, or lists its commands.
    pub fn run(self) -> Result<()> {
        let file = SweepFile::read(&self.file)?;
        if let Some(shares) = self.list {
            let n = shares.unwrap_or(file.n_streams());
            let (file, out) = (quoted(&self.file), quoted(&self.out));
            (1..=n).for_each(|i| println!("tsae sweep {file} --out {out} --only {i}/{n}"));
            return Ok(());
        }
        interrupt::watch();
        let Some(sweep) = file.sweep(&self.out)? else {
            println!("Interrupted. The same command goes on from here.");
            return Ok(());
        };
        let (i, n) = self.only.unwrap_or((1, 1));
        let mut sweep = sweep.only(i, n)?;
        if let Some(gigabytes) = self.memory {
            sweep = sweep.memory((gigabytes.max(0.0) * 1e9) as u64);
        }
        let results = sweep.run(&self.out)?;
        println!("{}\nWritten to {}.", results.table().text(), self.out.display());
        Ok(())
    }
}

impl Results {
    /// Writes the page.
    pub fn run(self) -> Result<()> {
        results_page(&self.dirs, &self.out)?;
        println!("{}", self.out.display());
        Ok(())
    }
}

/// A path as a shell takes it.
fn quoted(path: &std::path::Path) -> String {
    let path = path.display().to_string();
    match path.chars().all(|c| c.is_alphanumeric() || "/._-+=,".contains(c)) {
        true => path,
        false => format!("'{}'", path.replace('\'', "'\\''")),
    }
}
