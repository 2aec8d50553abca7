//! Litestream's spelling of the command line: `-config FILE`, `-json=true`, as Go's programs take it; and what we have instead
//! of its commands and options that we do not have.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::{ArgAction, Command};

/// The arguments with one dash in front of a long option's name made two, and `=true` and `=false` of switches understood.
/// What is not the name of an option stays as it is, and so does everything behind `--`.
#[must_use]
pub fn ours(args: impl IntoIterator<Item = OsString>, known: &Command) -> Vec<OsString> {
    let switches = long_options(known);
    let (mut ours, mut is_over) = (Vec::new(), false);
    for arg in args {
        is_over |= arg == "--";
        match arg.to_str().filter(|_| !is_over).and_then(|text| long_option(text, &switches)) {
            Some(spelled) => ours.extend(spelled.map(OsString::from)),
            None => ours.push(arg),
        }
    }
    ours
}

/// What there is instead of a command or option of Litestream that we do not have, for whoever's script still asks for it; of
/// the arguments behind the program's name. Nothing for every other command line.
#[must_use]
pub fn instead(args: impl IntoIterator<Item = OsString>) -> Option<String> {
    let mut args = args.into_iter().take_while(|arg| arg != "--");
    // Litestream has no options in front of the command, and `--log-level info` is one of ours.
    let command = args.next()?;
    if command == "replicate" {
        return args.find_map(|arg| look_up(OPTIONS, option_name(arg.to_str()?)?));
    }
    if command == "list" {
        let args: Vec<_> = args.collect();
        return is_litestreams_list(&args).then(|| said(&LIST));
    }
    look_up(COMMANDS, command.to_str()?)
}

/// Whether `list` has only options of Litestream's, which asks the running process for its databases, and nothing whose files
/// could be listed.
fn is_litestreams_list(args: &[OsString]) -> bool {
    let mut args = args.iter().map(|arg| arg.to_str().unwrap_or_default());
    while let Some(arg) = args.next() {
        match option_name(arg) {
            Some("json") => {}
            Some("socket" | "timeout") if arg.contains('=') => {}
            Some("socket" | "timeout") => {
                args.next();
            }
            Some(_) | None => return false,
        }
    }
    true
}

/// The name in `-name`, `--name` and `-name=value`.
fn option_name(arg: &str) -> Option<&str> {
    let name_and_value = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'))?;
    Some(name_and_value.split_once('=').map_or(name_and_value, |(name, _)| name))
}

fn look_up(table: &[(&str, &str)], wanted: &str) -> Option<String> {
    table.iter().find(|(name, _)| *name == wanted).map(said)
}

fn said((name, instead): &(&str, &str)) -> String {
    format!("'{name}' is Litestream's and not ours: {instead}")
}

/// Options of Litestream's `replicate`.
const OPTIONS: &[(&str, &str)] = &[
    (
        "force-snapshot",
        "snapshots are taken by themselves (`snapshot` in the config file), and what is stored is restorable without one; \
         `lifeboat replicate --once` stores everything, `lifeboat restore -o FILE URL` makes a copy",
    ),
    (
        "enforce-retention",
        "`lifeboat replicate` deletes by itself what no restore within the window needs (`retention` in the config file)",
    ),
    (
        "restore-if-db-not-exists",
        "run `lifeboat restore --if-db-not-exists --if-replica-exists -o DB URL && lifeboat replicate DB URL`; while the \
         bucket does not answer, that begins nothing",
    ),
];

/// Commands of Litestream.
const COMMANDS: &[(&str, &str)] = &[
    ("info", "`lifeboat status` shows the running process, `lifeboat version` the program"),
    ("register", BY_CONFIG),
    ("unregister", BY_CONFIG),
    ("start", BY_CONFIG),
    ("stop", BY_CONFIG),
    (
        "reset",
        "nothing has to be; every start compares the database with its replica and stores what differs, and a database that \
         does not continue it is refused (`Diverged` in docs/errors.md)",
    ),
];

/// Its `list`; ours wants to know of what.
const LIST: (&str, &str) = (
    "list without a replica",
    "`lifeboat status` asks the running process for its databases, `lifeboat databases` the config file; the files of a replica are \
     listed by `lifeboat list URL`",
);

const BY_CONFIG: &str = "write the database into `dbs` of the config file, or strike it there; the running `lifeboat replicate` \
    reads the file again, and stores the last commits of what is gone";

/// An argument that names a long option, in our spelling: nothing for a switch that is set to false.
fn long_option(text: &str, switches: &BTreeMap<String, bool>) -> Option<Option<String>> {
    let name_and_value = text.strip_prefix("--").or_else(|| text.strip_prefix('-'))?;
    let (name, value) = match name_and_value.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (name_and_value, None),
    };
    let Some(is_switch) = switches.get(name).copied() else {
        // With one dash it would be taken for `-c onfg`, and nobody would understand the complaint.
        return is_misspelled(name, switches).then(|| Some(format!("--{name_and_value}")));
    };
    Some(match value {
        Some("true") if is_switch => Some(format!("--{name}")),
        Some("false") if is_switch => None,
        Some(value) => Some(format!("--{name}={value}")),
        None => Some(format!("--{name}")),
    })
}

/// Whether a name is that of a long option but for a letter.
fn is_misspelled(name: &str, switches: &BTreeMap<String, bool>) -> bool {
    name.len() > 2 && switches.keys().any(|known| strsim::jaro_winkler(name, known) > LIKE)
}

const LIKE: f64 = 0.94;

/// Every long option of every command, and whether it is a switch.
fn long_options(command: &Command) -> BTreeMap<String, bool> {
    let is_switch = |action: &ArgAction| matches!(action, ArgAction::SetTrue);
    let own = command.get_arguments().filter_map(|argument| {
        let long = argument.get_long().filter(|long| long.len() > 1)?;
        Some((long.to_owned(), is_switch(argument.get_action())))
    });
    let always = ["help", "version"].map(|name| (name.to_owned(), false));
    own.chain(always).chain(command.get_subcommands().flat_map(long_options)).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    fn ours(line: &str) -> String {
        let args = super::ours(line.split(' ').map(OsString::from), &Cli::command());
        args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_long_option_with_one_dash_is_one() {
        assert_eq!(
            ours("restore -if-replica-exists -config c.yml -o out"),
            "restore --if-replica-exists --config c.yml -o out"
        );
        assert_eq!(ours("replicate -config=c.yml"), "replicate --config=c.yml");
        assert_eq!(ours("ltx -json=true -level 9 -names-only=false u"), "ltx --json --level 9 u");
        assert_eq!(ours("--help -version"), "--help --version");
        assert_eq!(
            ours("replicate -confg c.yml"),
            "replicate --confg c.yml",
            "the parser guesses what was meant"
        );
    }

    fn instead(line: &str) -> Option<String> {
        super::instead(line.split(' ').map(OsString::from))
    }

    #[test]
    fn whoever_asks_for_what_only_litestream_has_is_told_what_to_do_instead() {
        for (line, hint) in [
            ("replicate -once -force-snapshot", "restore -o FILE URL"),
            ("replicate -config c.yml --force-snapshot=true", "restore -o FILE URL"),
            ("replicate -enforce-retention -once", "`retention` in the config file"),
            ("replicate -restore-if-db-not-exists a.db s3://b/a", "--if-db-not-exists --if-replica-exists"),
            ("info -json", "lifeboat status"),
            ("register -replica s3://b/a a.db", "`dbs` of the config file"),
            ("unregister a.db", "`dbs` of the config file"),
            ("start a.db", "`dbs` of the config file"),
            ("stop -timeout 10 a.db", "`dbs` of the config file"),
            ("reset a.db", "Diverged"),
            ("list", "lifeboat status"),
            ("list -json", "lifeboat status"),
            ("list -socket /run/l.sock -timeout=5 --json=true", "lifeboat databases"),
        ] {
            let said = instead(line).unwrap_or_else(|| panic!("{line}: nothing is said"));
            assert!(said.contains(hint) && said.contains("Litestream's"), "{line}: {said}");
        }
    }

    #[test]
    fn what_we_have_is_not_taken_for_something_of_litestreams() {
        for line in [
            "replicate -config c.yml",
            "replicate info s3://b/info",
            "replicate -- -force-snapshot",
            "restore -force-snapshot",
            "restore reset",
            "--log-level info status",
            "status stop",
            "list s3://b/a",
            "list -json a.db",
            "list -timeout 5 a.db",
            "list --config c.yml",
            "list --help",
            "help",
            "nonsense",
        ] {
            assert_eq!(instead(line), None, "{line}");
        }
        for (name, _) in COMMANDS {
            assert!(Cli::command().find_subcommand(name).is_none(), "{name} is ours by now");
        }
        let known = long_options(&Cli::command());
        for (name, _) in OPTIONS {
            assert!(!known.contains_key(*name), "{name} is ours by now");
        }
    }

    #[test]
    fn every_command_that_is_named_as_the_way_would_be_understood() {
        for (name, instead) in OPTIONS.iter().chain(COMMANDS).chain([&LIST]) {
            let quoted = instead.split('`').skip(1).step_by(2).flat_map(|text| text.split(" && "));
            for line in quoted.filter(|text| text.starts_with("lifeboat ")) {
                let parsed = Cli::command().try_get_matches_from(line.split(' '));
                assert!(parsed.is_ok(), "{name}: {line}: {}", parsed.unwrap_err());
            }
        }
    }

    #[test]
    fn what_is_no_option_of_ours_stays_as_it_is() {
        for line in [
            "restore -oout.db x",
            "replicate -c c.yml",
            "x -unknown",
            "x -oout",
            "x -cconfig.yml",
            "x -- -config",
            "x - -- --json=true",
            "x -o=a",
        ] {
            assert_eq!(ours(line), line);
        }
    }
}
