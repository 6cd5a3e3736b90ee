use std::fs;

use larder_tidy::{
    Error, Project,
    traces::{RULES, render, trace},
};

/// Writes docs/rules.md: each rule of the protocol, where it is kept, and which tests try it.
pub(crate) fn write() -> Result<(), String> {
    let write = || -> Result<(), Error> {
        let project = Project::here()?;
        fs::write(project.root().join(RULES), render(&trace(&project)?))?;
        Ok(())
    };
    write().map_err(|error| format!("{RULES} cannot be written: {error}"))?;
    println!("wrote {RULES}");
    Ok(())
}
