//! To come.

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct AuditArgs {}

pub(crate) fn audit(_: &AuditArgs) -> Result<(), String> {
    Err("not built yet".to_owned())
}
