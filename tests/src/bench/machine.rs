//! What the numbers were taken on, and whether it was idle.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::bench::figures::Spread;

/// Where memory is a file system.
pub const MEMORY: &str = "/dev/shm";
/// `f_type` of tmpfs (statfs(2)).
const TMPFS: u64 = 0x0102_1994;
/// Records written to know the disk.
const RECORDS: usize = 200;
/// About what one call leaves in the ledger.
const RECORD_BYTES: usize = 2_048;

/// The machine and the programs.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub date: String,
    pub processor: String,
    pub cores: usize,
    pub kernel: String,
    pub cordon: String,
    pub commit: String,
    pub nginx: Option<String>,
    /// To append 2 KiB and make them durable (`fdatasync`), on the disk of the durable rows.
    pub sync_us: f64,
    pub load_average: f64,
}

impl Machine {
    /// Looks around; takes a second for the disk.
    pub fn look(cordon: &Path, nginx: Option<&Path>, disk: &Path) -> Result<Self> {
        let processors = fs::read_to_string("/proc/cpuinfo")?;
        let processor = processors.lines().find(|line| line.starts_with("model name"));
        let processor = processor.and_then(|line| line.split_once(':'));
        Ok(Self {
            date: first_line(Command::new("date").args(["-u", "+%Y-%m-%d"])),
            processor: processor.map_or_else(String::new, |(_, name)| name.trim().to_owned()),
            cores: std::thread::available_parallelism()?.get(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            cordon: first_line(Command::new(cordon).arg("--version")),
            commit: first_line(Command::new("git").args(["rev-parse", "--short=12", "HEAD"])),
            nginx: nginx.map(|nginx| first_line(Command::new(nginx).arg("-v"))),
            sync_us: sync_us(disk)?,
            load_average: load_average(&fs::read_to_string("/proc/loadavg")?).unwrap_or_default(),
        })
    }
}

/// A program on the search path or where system programs lie.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

/// Whether what lies in `folder` lies in memory.
pub fn is_memory(folder: &Path) -> Result<bool> {
    let kind = rustix::fs::statfs(folder)
        .with_context(|| format!("cannot look at `{}`", folder.display()))?
        .f_type;
    Ok(u64::try_from(kind).is_ok_and(|kind| kind == TMPFS))
}

/// The first line a command prints; `unknown` where it fails.
fn first_line(command: &mut Command) -> String {
    let output = command.output().ok().filter(|output| output.status.success());
    let Some(output) = output else { return "unknown".to_owned() };
    let texts = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&texts).lines().next().unwrap_or_default().to_owned()
}

fn load_average(text: &str) -> Option<f64> {
    text.split(' ').next()?.parse().ok()
}

/// The median time of an append with `fdatasync`.
fn sync_us(disk: &Path) -> Result<f64> {
    let folder = tempfile::tempdir_in(disk)?;
    let path = folder.path().join("records");
    let mut file = OpenOptions::new().create_new(true).append(true).open(path)?;
    let mut times = Vec::with_capacity(RECORDS);
    for _ in 0..RECORDS {
        let begin = Instant::now();
        file.write_all(&[7; RECORD_BYTES])?;
        file.sync_data()?;
        times.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    Ok(Spread::of(&times).map_or(0.0, |spread| spread.median))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_from_a_disk() {
        assert!(is_memory(Path::new(MEMORY)).unwrap());
        assert!(!is_memory(Path::new("/proc")).unwrap());
        assert!(is_memory(Path::new("/no/such/folder")).is_err());
    }

    #[test]
    fn the_load_is_the_first_number() {
        assert_eq!(load_average("0.42 0.50 0.61 1/200 12345\n"), Some(0.42));
        assert_eq!(load_average(""), None);
    }
}
