//! `selftest`: a device proves itself.

use serde_json::json;
use thiserror::Error;
use watershed_engine::device::{self, DeviceChoice, DeviceError};
use watershed_engine::selftest::{self, SelfTestError};

/// Check that a device computes every operation to the bit.
///
/// Runs each operation of the numeric contract on hostile inputs and compares the digest of its results with the one in
/// this program. A device that passes may do exact work: whatever it trains, any other device that passes can check.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The device to check: auto, cpu, gpu or gpu:N.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// One JSON object on stdout instead of text.
    #[arg(long)]
    json: bool,
    /// List the graphics devices and stop.
    #[arg(long)]
    list: bool,
}

/// Why the self-test did not pass.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("{device}: {source}")]
    Test { device: String, source: SelfTestError },
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if args.list {
        println!("cpu    {}", device::cpu().name);
        for (i, d) in device::list().iter().enumerate() {
            println!("gpu:{i}  {}", d.name);
        }
        return Ok(());
    }
    let open = device::open(args.device)?;
    if !args.json {
        println!("device    {}", open.name);
    }
    let outcome = selftest::check(&open.device);
    if args.json {
        let value = match &outcome {
            Ok(found) => json!({
                "device": open.name,
                "passed": true,
                "operations": found.len(),
                "digest": hex::encode(selftest::overall(found)),
            }),
            Err(e) => json!({
                "device": open.name,
                "passed": false,
                "operation": match e {
                    SelfTestError::Deviates { operation, .. } | SelfTestError::Failed { operation, .. } => Some(operation),
                    SelfTestError::Count { .. } | SelfTestError::Order { .. } => None,
                },
                "reason": e.to_string(),
            }),
        };
        println!("{value}");
    }
    let found = outcome.map_err(|source| Failure::Test { device: open.name.clone(), source })?;
    if !args.json {
        for o in &found {
            println!("  ok      {}", o.operation);
        }
        println!("digest    {}", hex::encode(selftest::overall(&found)));
        println!("This device computes every operation to the bit and may do exact work.");
    }
    Ok(())
}
