//! An NVIDIA card, by its driver alone, which is loaded when somebody asks for a card.
//!
//! Kernels, copies and zeros go through the device's default stream and are done in the order in
//! which they are asked for; the host waits only for what it reads. What is written beside the
//! kernels has a stream of its own (`copies`).
#![allow(unsafe_code)]

mod copies;

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::panic;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use copies::Copies;
use cudarc::driver::{result, sys};
use result::DriverError;
use sys::CUdevice_attribute_enum as Attribute;
use sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;

use super::Work;
use super::driver::{Argument, Driver, Shape};
use crate::base::error::{Error, Result};

/// The kernels, as `scripts/ptx.sh` compiles them.
const MODULES: [&str; 11] = [
    include_str!("kernels/ptx/pack.ptx"),
    include_str!("kernels/ptx/screen.ptx"),
    include_str!("kernels/ptx/codes.ptx"),
    include_str!("kernels/ptx/decode.ptx"),
    include_str!("kernels/ptx/order.ptx"),
    include_str!("kernels/ptx/latents.ptx"),
    include_str!("kernels/ptx/table.ptx"),
    include_str!("kernels/ptx/stream.ptx"),
    include_str!("kernels/ptx/product.ptx"),
    include_str!("kernels/ptx/product16.ptx"),
    include_str!("kernels/ptx/attention.ptx"),
];

/// The first driver that reads this PTX: CUDA 12.2.
const DRIVER: i32 = 12_020;

/// The first cards that have the instructions: Ampere.
const ARCHITECTURE: (i32, i32) = (8, 0);

/// What a block gets without being asked.
const SHARED: u32 = 48 * 1024;

/// The default stream.
const KERNELS: sys::CUstream = ptr::null_mut();

/// A card with the kernels on it. What is dropped last is the context.
pub(super) struct Cuda {
    name: String,
    ordinal: usize,
    functions: HashMap<String, sys::CUfunction>,
    copies: Copies,
    context: Context,
}

// SAFETY: a context, its streams and the functions of its modules may be used from any thread that
// has made the context its own, which every call below does; the driver locks itself. Pinned memory
// is reached under a lock, or by whoever has taken it from a list.
unsafe impl Send for Cuda {}
// SAFETY: as above.
unsafe impl Sync for Cuda {}

impl std::fmt::Debug for Cuda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cuda({}, {})", self.ordinal, self.name)
    }
}

/// What there is: a name for every card, or why none can be used, in the middle of a sentence.
pub(super) fn cards(work: Work) -> Result<Vec<String>, String> {
    // A driver that lacks one of its own functions makes the binding panic.
    let asked = panic::catch_unwind(|| ask_driver(work));
    asked.unwrap_or_else(|_| {
        Err("the NVIDIA driver's library is damaged: install the driver anew".to_owned())
    })
}

fn ask_driver(work: Work) -> Result<Vec<String>, String> {
    // SAFETY: it only looks whether the library can be loaded.
    if !unsafe { sys::is_culib_present() } {
        return Err(format!(
            "there is no NVIDIA driver (libcuda.so.1 is not found): install the driver, version 535 or later, or {} on the CPU",
            work.to
        ));
    }
    let failed = |what: &str, error: DriverError| {
        format!("the NVIDIA driver cannot {what} ({})", said(error))
    };
    let mut version = 0;
    // SAFETY: the library is there, and the number outlives the call.
    unsafe { sys::cuDriverGetVersion(&mut version) }
        .result()
        .map_err(|e| failed("say its version", e))?;
    if version < DRIVER {
        return Err(format!(
            "the NVIDIA driver is too old: it knows CUDA {}.{}, and 12.2 is needed: install driver 535 or later",
            version / 1000,
            version % 1000 / 10
        ));
    }
    result::init().map_err(|error| match error.0 {
        sys::CUresult::CUDA_ERROR_NO_DEVICE => {
            "the NVIDIA driver finds no card in this machine".to_owned()
        }
        _ => failed("start", error),
    })?;
    let count = result::device::get_count().map_err(|e| failed("count cards", e))?;
    (0..count)
        .map(|ordinal| {
            let device = result::device::get(ordinal).map_err(|e| failed("open a card", e))?;
            result::device::get_name(device).map_err(|e| failed("name a card", e))
        })
        .collect()
}

/// The driver's own words.
fn said(error: DriverError) -> String {
    match error.error_string() {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => format!("error {}", error.0 as u32),
    }
}

impl Cuda {
    /// Opens a card that [`cards`] has found, once in a process.
    pub(super) fn open(ordinal: usize, work: Work) -> Result<Arc<Cuda>, String> {
        static OPEN: Mutex<Vec<(usize, Weak<Cuda>)>> = Mutex::new(Vec::new());
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(_, card)| card.strong_count() > 0);
        if let Some(card) =
            open.iter().find(|(at, _)| *at == ordinal).and_then(|(_, card)| card.upgrade())
        {
            return Ok(card);
        }
        let card = Arc::new(Cuda::load(ordinal, work)?);
        open.push((ordinal, Arc::downgrade(&card)));
        Ok(card)
    }

    fn load(ordinal: usize, work: Work) -> Result<Cuda, String> {
        let failed = |what: &'static str| {
            move |error| format!("cuda:{ordinal} does not {what} ({})", said(error))
        };
        let device = result::device::get(ordinal as i32).map_err(failed("open"))?;
        let name = result::device::get_name(device).map_err(failed("say its name"))?;
        // SAFETY: the driver gave this device.
        let attribute = |which| unsafe { result::device::get_attribute(device, which) };
        let architecture = (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
                .map_err(failed("say what it is"))?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
                .map_err(failed("say what it is"))?,
        );
        if architecture < ARCHITECTURE {
            return Err(format!(
                "cuda:{ordinal}, {name}, has compute capability {}.{}, and {}.{} (Ampere) is needed: take another card, or {} on the CPU",
                architecture.0, architecture.1, ARCHITECTURE.0, ARCHITECTURE.1, work.to
            ));
        }
        // SAFETY: as above.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(failed("open"))?;
        let context = Context { device, context };
        context.enter().map_err(failed("open"))?;
        let copies = Copies::new().map_err(failed("take copies"))?;
        let mut card = Cuda { name, ordinal, functions: HashMap::new(), copies, context };
        for ptx in MODULES {
            let text = CString::new(ptx).map_err(|_| "the kernels hold a zero byte".to_owned())?;
            // SAFETY: PTX, as a text that ends with a zero. The module stays loaded for as long as
            // the context.
            let module = unsafe { result::module::load_data(text.as_ptr().cast()) }
                .map_err(failed("load the kernels"))?;
            for kernel in entries(ptx) {
                let name = CString::new(kernel)
                    .map_err(|_| "a kernel's name holds a zero byte".to_owned())?;
                // SAFETY: the module was loaded just now.
                let function = unsafe { result::module::get_function(module, name) }
                    .map_err(failed("find a kernel it has loaded"))?;
                card.functions.insert(kernel.to_owned(), function);
            }
        }
        Ok(card)
    }

    /// Makes the card's context this thread's.
    fn enter(&self) -> Result<()> {
        self.context.enter().map_err(self.failed("be used from this thread"))
    }

    fn failed(&self, doing: &'static str) -> impl Fn(DriverError) -> Error {
        let device = self.name();
        move |error| Error::Device { device: device.clone(), doing, why: said(error) }
    }
}

/// The kernels in a PTX.
fn entries(ptx: &str) -> impl Iterator<Item = &str> {
    ptx.split(".visible .entry ").skip(1).filter_map(|rest| rest.split('(').next())
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // Its fields go next, which need the context. An error can help nobody here.
        let _ = self.enter();
    }
}

/// A card's primary context.
struct Context {
    device: sys::CUdevice,
    context: sys::CUcontext,
}

impl Context {
    /// Makes it this thread's.
    fn enter(&self) -> Result<(), DriverError> {
        // SAFETY: it is open for as long as this.
        unsafe { result::ctx::set_current(self.context) }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: it was retained when this was made. An error can help nobody here.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

impl Driver for Cuda {
    fn name(&self) -> String {
        format!("cuda:{}", self.ordinal)
    }

    fn free_bytes(&self) -> Result<u64> {
        self.enter()?;
        let (free, _) =
            result::mem_get_info().map_err(self.failed("say how much memory is free"))?;
        Ok(free as u64)
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        self.enter()?;
        // SAFETY: nobody reads what was not written: buffers are filled first.
        unsafe { result::malloc_sync(bytes) }.map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::Memory {
                what: format!("an array on {}", self.name()),
                needs: bytes as u64,
                free: self.free_bytes().unwrap_or(0),
                remedy: "do less at once, or end what else runs on the card".to_owned(),
            },
            _ => self.failed("allocate memory")(error),
        })
    }

    fn free(&self, address: u64) {
        if self.enter().is_ok() {
            // SAFETY: `allocate` gave it, and its one owner is being dropped. An error can help
            // nobody here.
            let _ = unsafe { result::free_sync(address) };
        }
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<()> {
        self.enter()?;
        self.copies.write(address, data).map_err(self.failed("take data"))
    }

    fn write_beside(&self, address: u64, data: &[u8]) -> Result<()> {
        self.enter()?;
        self.copies.write_beside(address, data).map_err(self.failed("take data"))
    }

    fn join(&self) -> Result<()> {
        self.enter()?;
        self.copies.join().map_err(self.failed("wait for data"))
    }

    fn read(&self, address: u64, data: &mut [u8]) -> Result<()> {
        self.read_many(&mut [(address, data)])
    }

    fn read_many(&self, parts: &mut [(u64, &mut [u8])]) -> Result<()> {
        self.enter()?;
        self.copies.read(parts).map_err(self.failed("finish its work"))
    }

    fn zero(&self, address: u64, bytes: usize) -> Result<()> {
        self.enter()?;
        // SAFETY: buffers clear no more than they hold.
        unsafe { result::memset_d8_async(address, 0, bytes, KERNELS) }
            .map_err(self.failed("clear memory"))
    }

    fn launch(&self, kernel: &str, shape: Shape, arguments: &[Argument]) -> Result<()> {
        self.enter()?;
        let Some(&function) = self.functions.get(kernel) else {
            let why = format!("there is no kernel {kernel} in the PTX: run scripts/ptx.sh");
            return Err(Error::Device { device: self.name(), doing: "run a kernel", why });
        };
        if shape.shared > SHARED {
            // SAFETY: the function's module stays loaded.
            unsafe {
                result::function::set_function_attribute(
                    function,
                    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                    shape.shared as i32,
                )
            }
            .map_err(self.failed("give a kernel that much shared memory"))?;
        }
        let mut arguments: Vec<*mut c_void> =
            arguments.iter().map(|argument| argument.bytes().as_ptr().cast_mut().cast()).collect();
        let ([x, y], block) = (shape.grid, (shape.block, 1, 1));
        // SAFETY: arguments are copied when a kernel is launched. That they are what the kernel
        // takes, and that it stays within its arrays, is what the emulator's tests hold.
        unsafe {
            result::launch_kernel(function, (x, y, 1), block, shape.shared, KERNELS, &mut arguments)
        }
        .map_err(self.failed("run a kernel"))
    }
}
