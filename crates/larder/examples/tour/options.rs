//! The command line.

use std::time::Duration;

const USAGE: &str = "\
usage: tour [--load [--seconds N]] [--no-redis]
  --load       reads and writes from 64 tasks, and what came of it
  --seconds N  how long; default 10
  --no-redis   L1 only";

#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) load: bool,
    pub(crate) seconds: Duration,
    pub(crate) redis: bool,
}

impl Options {
    /// Reads the arguments. The error is a message for the user.
    pub(crate) fn from_args(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            load: false,
            seconds: Duration::from_secs(10),
            redis: true,
        };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--load" => options.load = true,
                "--no-redis" => options.redis = false,
                "--seconds" => {
                    let given = args.next().unwrap_or_default();
                    options.seconds = match given.parse::<u64>() {
                        Ok(seconds @ 1..=3600) => Duration::from_secs(seconds),
                        _ => {
                            return Err(format!(
                                "--seconds takes a number from 1 to 3600, not {given:?}\n{USAGE}"
                            ));
                        }
                    };
                    options.load = true;
                }
                "-h" | "--help" => return Err(USAGE.to_owned()),
                other => return Err(format!("there is no option {other:?}\n{USAGE}")),
            }
        }
        Ok(options)
    }
}
