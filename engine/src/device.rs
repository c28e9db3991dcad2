//! Choosing a device by name and opening it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::burn::tensor::{Device, DeviceType};
use thiserror::Error;

use crate::product::Isa;

/// What a person asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A graphics card if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The graphics device with that index in [`list`]; a software rasterizer counts.
    Gpu(usize),
}

/// A name that is no device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DeviceError {
    /// Not one of the known forms.
    #[error("unknown device {0:?}; use auto, cpu, gpu or gpu:N")]
    Unknown(String),
    /// There is no such graphics device.
    #[error(
        "there is no graphics device {index}: {found} found; check that a Vulkan driver is installed (vulkaninfo \
         --summary lists what it sees), or use --device cpu"
    )]
    NotFound {
        /// The index asked for.
        index: usize,
        /// How many there are.
        found: usize,
    },
    /// The device was found but could not be opened.
    #[error("{name} could not be opened: {reason}; update its driver, or use --device cpu")]
    Unusable {
        /// What the device calls itself.
        name: String,
        /// What went wrong.
        reason: String,
    },
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;
    fn from_str(s: &str) -> Result<Self, DeviceError> {
        match s.split_once(':') {
            None if s == "auto" => Ok(Self::Auto),
            None if s == "cpu" => Ok(Self::Cpu),
            None if s == "gpu" => Ok(Self::Gpu(0)),
            Some(("gpu", n)) => n.parse().map(Self::Gpu).map_err(|_| DeviceError::Unknown(s.to_owned())),
            _ => Err(DeviceError::Unknown(s.to_owned())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu(n) => write!(f, "gpu:{n}"),
        }
    }
}

/// A device that has been found.
#[derive(Clone, Debug)]
pub struct OpenDevice {
    /// For tensors.
    pub device: Device,
    /// What it calls itself.
    pub name: String,
    /// Whether it is a graphics card, as opposed to the CPU or a software rasterizer on it.
    pub is_card: bool,
    /// Whether it is reached through wgpu.
    pub is_wgpu: bool,
}

impl OpenDevice {
    /// Bytes that a graphics device can hold at once, where its driver says.
    pub fn memory(&self) -> Option<u64> {
        crate::ops::device_memory(&self.device)
    }
}

/// Gives this process an empty folder as its `XDG_RUNTIME_DIR` where it has none, by starting the program again in its place. On a
/// machine without a graphical session the driver's libraries look there for a display, and each of them complains on standard
/// error. For `main` only, before anything else; comes back if nothing is to be done, or if it cannot be.
#[cfg(unix)]
pub fn ensure_runtime_dir() {
    use std::os::unix::fs::DirBuilderExt as _;
    use std::os::unix::process::CommandExt as _;
    const NAME: &str = "XDG_RUNTIME_DIR";
    if std::env::var_os(NAME).is_some() {
        return;
    }
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::home_dir().map(|home| home.join(".local/share")));
    // Below the home folder, where nobody else can put anything; drivers want it to be its owner's alone.
    let (Some(folder), Ok(program)) = (base.map(|b| b.join("watershed/runtime")), std::env::current_exe())
    else {
        return;
    };
    if std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).is_err() {
        return;
    }
    let mut arguments = std::env::args_os();
    let mut again = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // It comes back only if it failed, and then everything works, with those complaints.
    let _ = again.args(arguments).env(NAME, folder).exec();
}

/// The CPU.
pub fn cpu() -> OpenDevice {
    let name = format!("CPU, {} threads, {}", rayon::current_num_threads(), Isa::best());
    OpenDevice { device: Device::flex(), name, is_card: false, is_wgpu: false }
}

/// Graphics devices reached through wgpu: cards first, then software rasterizers. Starts the driver.
pub fn list() -> Vec<OpenDevice> {
    let mut found: Vec<OpenDevice> = Device::enumerate(DeviceType::Wgpu)
        .into_iter()
        .map(|device| {
            let identity = device.identity();
            let is_card = identity.as_ref().is_some_and(|i| i.physical.is_some());
            let name = identity.map_or_else(|| "unnamed graphics device".to_owned(), |i| i.name);
            let name = named(name, is_card);
            OpenDevice { device, name, is_card, is_wgpu: true }
        })
        .collect();
    found.sort_by_key(|d| !d.is_card);
    found
}

/// What a graphics device is called: one that a program on the CPU imitates is called so wherever it is named.
fn named(name: String, is_card: bool) -> String {
    if is_card { name } else { format!("{name} (software, on the CPU)") }
}

/// Opens what was asked for.
///
/// # Errors
/// No graphics device of that index, or one that does not answer.
pub fn open(choice: DeviceChoice) -> Result<OpenDevice, DeviceError> {
    let found = match choice {
        DeviceChoice::Cpu => return Ok(cpu()),
        DeviceChoice::Auto => match list().into_iter().find(|d| d.is_card) {
            Some(card) => card,
            None => return Ok(cpu()),
        },
        DeviceChoice::Gpu(index) => {
            let all = list();
            let found = all.len();
            all.into_iter().nth(index).ok_or(DeviceError::NotFound { index, found })?
        }
    };
    match found.device.sync() {
        Ok(()) => Ok(found),
        Err(e) => Err(DeviceError::Unusable { name: found.name, reason: format!("{e:?}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for name in ["auto", "cpu", "gpu:0", "gpu:3"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        assert_eq!("gpu".parse::<DeviceChoice>().unwrap(), DeviceChoice::Gpu(0));
        for bad in ["", "tpu", "gpu:", "gpu:-1", "cpu:0", "gpu:99999999999999999999"] {
            assert!(bad.parse::<DeviceChoice>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_device_that_is_no_card_says_so_in_its_name() {
        assert_eq!(
            named("llvmpipe (LLVM 19.1.7)".to_owned(), false),
            "llvmpipe (LLVM 19.1.7) (software, on the CPU)"
        );
        assert_eq!(named("NVIDIA H200".to_owned(), true), "NVIDIA H200");
        assert!(list().iter().all(|d| d.is_card || d.name.ends_with("(software, on the CPU)")));
    }

    #[test]
    fn a_missing_graphics_device_is_an_error_that_counts() {
        assert!(matches!(open(DeviceChoice::Gpu(1000)), Err(DeviceError::NotFound { index: 1000, .. })));
    }
}
