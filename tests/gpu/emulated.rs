//! A device that is this processor: it runs the kernels' own source, compiled by the system's C++
//! compiler against `emulator.h`.
//!
//! Every allocation holds rubbish at first and lies between guards, which are looked at after every
//! kernel.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_void};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use libloading::Library;
use tokenized_sae::backend::gpu::{Argument, Driver, Shape};
use tokenized_sae::prelude::*;

use crate::compile::{compile, sources};

/// Bytes of a guard, and what stands there.
const GUARD: usize = 256;
const GUARDS: u8 = 0xA7;

type Launch = unsafe extern "C" fn(
    *const c_char,
    *const u32,
    u32,
    usize,
    *mut *mut c_void,
    *const usize,
    usize,
    u64,
) -> *const c_char;

/// A library of kernels, compiled for the emulator.
pub struct Emulator {
    library: Library,
}

/// The emulator keeps its state in globals: one kernel at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a library of kernels has for the tests to call.
const EMULATE: &str = r#"
extern "C" __attribute__((visibility("default"))) const char* emulate(
    const char* name, const unsigned* grid, unsigned block, size_t shared, void** p, const size_t* sizes, size_t n, uint64_t seed) {
    for (const auto& entry : entries)
        if (!strcmp(entry.name, name)) return emulator::launch(entry, grid, block, shared, p, sizes, n, seed);
    return "there is no kernel of that name";
}
"#;

impl Emulator {
    /// Compiles and loads sources; `None` if there is no compiler.
    pub fn load(name: &str, sources: &[(PathBuf, String)]) -> Option<Emulator> {
        let path = compile(name, sources, EMULATE)?;
        // SAFETY: it was made just now from sources of this crate, and runs nothing when loaded.
        let library = unsafe { Library::new(&path) }.unwrap();
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        Some(Emulator { library })
    }

    /// Runs a kernel; fails with what the emulator found wrong.
    pub fn launch(
        &self,
        kernel: &str,
        shape: Shape,
        arguments: &[Argument],
        seed: u64,
    ) -> Result<(), String> {
        let name = std::ffi::CString::new(kernel).unwrap();
        let mut pointers: Vec<*mut c_void> =
            arguments.iter().map(|argument| argument.bytes().as_ptr().cast_mut().cast()).collect();
        let sizes: Vec<usize> = arguments.iter().map(|argument| argument.bytes().len()).collect();
        let _alone = alone();
        // SAFETY: the function has this signature; kernels read and write only what their arguments
        // name, which is what these tests are about, and guards tell of most of what they might do
        // otherwise.
        let failure = unsafe {
            let emulate = self.library.get::<Launch>(b"emulate").unwrap();
            emulate(
                name.as_ptr(),
                shape.grid.as_ptr(),
                shape.block,
                shape.shared as usize,
                pointers.as_mut_ptr(),
                sizes.as_ptr(),
                sizes.len(),
                seed,
            )
        };
        if failure.is_null() {
            return Ok(());
        }
        // SAFETY: a text of the library's own, which nobody changes while the lock is held.
        Err(unsafe { CStr::from_ptr(failure) }.to_string_lossy().into_owned())
    }
}

/// The crate's kernels, and the ladder that leads up to one of them, compiled once.
pub fn kernels() -> Option<&'static Emulator> {
    static KERNELS: OnceLock<Option<Emulator>> = OnceLock::new();
    let load = || {
        let ladder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gpu/ladder.cu");
        let source = fs::read_to_string(&ladder).unwrap();
        Emulator::load("kernels", &[sources(), vec![(ladder, source)]].concat())
    };
    KERNELS.get_or_init(load).as_ref()
}

/// The device.
pub struct Emulated {
    emulator: &'static Emulator,
    /// Lengths by address.
    allocated: Mutex<BTreeMap<u64, usize>>,
    /// How many arrays were asked for so far.
    pub allocations: AtomicUsize,
    seed: Mutex<u64>,
}

impl std::fmt::Debug for Emulated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Emulated")
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes + 2 * GUARD, 256).unwrap()
}

impl Emulated {
    /// Threads take turns as the seed decides.
    pub fn new(seed: u64) -> Option<Emulated> {
        Some(Emulated {
            emulator: kernels()?,
            allocated: Mutex::default(),
            allocations: AtomicUsize::new(0),
            seed: Mutex::new(seed),
        })
    }

    /// How many bytes are allocated.
    pub fn bytes(&self) -> usize {
        self.allocated.lock().unwrap().values().sum()
    }

    fn check_range(&self, address: u64, bytes: usize) {
        let allocated = self.allocated.lock().unwrap();
        let (start, len) =
            allocated.range(..=address).next_back().expect("nothing is allocated there");
        assert!(address + bytes as u64 <= start + *len as u64, "beyond an allocation");
    }

    fn check_guards(&self, kernel: &str) {
        for (&address, &len) in self.allocated.lock().unwrap().iter() {
            for at in [address as usize - GUARD, address as usize + len] {
                // SAFETY: guards lie on both sides of every allocation.
                let guard = unsafe { std::slice::from_raw_parts(at as *const u8, GUARD) };
                assert!(
                    guard.iter().all(|byte| *byte == GUARDS),
                    "{kernel} wrote beyond an array of {len} bytes"
                );
            }
        }
    }
}

impl Driver for Emulated {
    fn name(&self) -> String {
        "emulated".to_owned()
    }

    fn free_bytes(&self) -> Result<u64> {
        Ok(1 << 40)
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        // SAFETY: the layout is not empty; all of it is written, guards and rubbish.
        let start = unsafe {
            let start = alloc(layout(bytes));
            start.write_bytes(GUARDS, bytes + 2 * GUARD);
            start.add(GUARD).write_bytes(0xCD, bytes);
            start as u64
        };
        self.allocated.lock().unwrap().insert(start + GUARD as u64, bytes);
        self.allocations.fetch_add(1, Ordering::Relaxed);
        Ok(start + GUARD as u64)
    }

    fn free(&self, address: u64) {
        let bytes = self.allocated.lock().unwrap().remove(&address).expect("allocated here");
        // SAFETY: it was allocated with this layout.
        unsafe { dealloc((address as usize - GUARD) as *mut u8, layout(bytes)) }
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<()> {
        self.check_range(address, data.len());
        // SAFETY: it lies within an allocation, of which no reference exists.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), address as *mut u8, data.len()) };
        Ok(())
    }

    fn read(&self, address: u64, data: &mut [u8]) -> Result<()> {
        self.check_range(address, data.len());
        // SAFETY: as above.
        unsafe {
            std::ptr::copy_nonoverlapping(address as *const u8, data.as_mut_ptr(), data.len())
        };
        Ok(())
    }

    fn zero(&self, address: u64, bytes: usize) -> Result<()> {
        self.check_range(address, bytes);
        // SAFETY: as above.
        unsafe { (address as *mut u8).write_bytes(0, bytes) };
        Ok(())
    }

    fn launch(&self, kernel: &str, shape: Shape, arguments: &[Argument]) -> Result<()> {
        let seed = {
            let mut seed = self.seed.lock().unwrap();
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *seed
        };
        let launched = self.emulator.launch(kernel, shape, arguments, seed);
        assert_eq!(launched, Ok(()), "{kernel}, seed {seed}");
        self.check_guards(kernel);
        Ok(())
    }
}
