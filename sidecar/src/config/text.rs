//! The text of a config: which file or variable it is from, with the environment's values put in.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Config;
use super::problems::{Problem, failure};
use crate::args::ConfigArgs;
use crate::exit::Failure;

/// A config's text as it was read. It may hold secrets, so it is not printed.
#[derive(PartialEq, Eq)]
pub struct ConfigText {
    /// Where it is from, in words.
    from: String,
    /// The file, unless it is from the environment.
    path: Option<PathBuf>,
    text: String,
    /// What is wrong with the names in it.
    problems: Vec<Problem>,
}

impl fmt::Debug for ConfigText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigText").field("from", &self.from).finish_non_exhaustive()
    }
}

impl ConfigText {
    /// Reads the config file, or the environment's.
    ///
    /// # Errors
    /// [`Failure`] with exit code 2 when there is none, or it cannot be read.
    pub fn load(args: &ConfigArgs) -> Result<Self, Failure> {
        if args.config_from_env {
            let text = std::env::var(INLINE)
                .map_err(|_| Failure::usage(format!("--config-from-env: ${INLINE} is not set")))?;
            return Ok(Self { from: format!("${INLINE}"), path: None, text, problems: Vec::new() });
        }
        let path = config_path(args)?;
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Failure::usage(format!("config file {}: {error}; name another with --config", path.display()))
        })?;
        let (text, problems) = if args.no_expand_env { (text, Vec::new()) } else { expand(&text) };
        Ok(Self { from: format!("config file {}", path.display()), path: Some(path), text, problems })
    }

    /// Where it is from, in words.
    #[must_use]
    pub fn from(&self) -> &str {
        &self.from
    }

    /// The file, unless it is from the environment.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The config.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check(&self) -> Result<Config, Vec<Problem>> {
        if self.problems.is_empty() { Config::check(&self.text) } else { Err(self.problems.clone()) }
    }

    /// The config.
    ///
    /// # Errors
    /// [`Failure`] with exit code 2 that names file, line and key of the first problem.
    pub fn parse(&self) -> Result<Config, Failure> {
        self.check().map_err(|problems| failure(&problems).about(&self.from))
    }
}

fn config_path(args: &ConfigArgs) -> Result<PathBuf, Failure> {
    let named = args.config.clone().or_else(|| std::env::var_os("LIFEBOAT_CONFIG").map(PathBuf::from));
    let usual = || CONFIG_PATHS.iter().map(PathBuf::from).find(|path| path.exists());
    named.or_else(usual).ok_or_else(|| {
        Failure::usage(format!(
            "no config file: name one with --config or $LIFEBOAT_CONFIG, or write {}; or say what and \
             where: `lifeboat replicate DB URL`, `lifeboat restore -o DB URL`",
            CONFIG_PATHS[0]
        ))
    })
}

/// Replaces `$NAME` and `${NAME}`, as Litestream does; but a name that is not set is an error here, not an empty string.
/// Comments are left alone.
fn expand(text: &str) -> (String, Vec<Problem>) {
    let (mut expanded, mut problems) = (String::with_capacity(text.len()), Vec::new());
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        if line.trim_start().starts_with('#') {
            expanded.push_str(line);
            continue;
        }
        match shellexpand::env(line) {
            Ok(line) => expanded.push_str(&line),
            Err(error) => problems.push(Problem {
                line: Some(number),
                key: String::new(),
                message: format!(
                    "the environment variable {} is not set; set it, or use --no-expand-env to take '$' literally",
                    error.var_name
                ),
            }),
        }
    }
    (expanded, problems)
}

/// The environment variable of a whole config.
const INLINE: &str = "LIFEBOAT_CONFIG_INLINE";
const CONFIG_PATHS: [&str; 2] = ["/etc/lifeboat.yml", "/etc/litestream.yml"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_variable_that_is_not_set_is_an_error_and_not_an_empty_bucket() {
        let (_, problems) = expand("dbs:\n- path: ${LIFEBOAT_TEST_SURELY_UNSET}\n# $LIFEBOAT_TEST_NEITHER\n");
        assert_eq!(problems.len(), 1, "{problems:?}");
        let said = problems[0].to_string();
        assert!(said.starts_with("line 2: ") && said.contains("LIFEBOAT_TEST_SURELY_UNSET"), "{said}");
        let home = format!("home: {}", std::env::var("HOME").unwrap());
        assert_eq!(expand("home: $HOME"), (home, Vec::new()));
    }
}
