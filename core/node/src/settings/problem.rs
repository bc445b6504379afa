//! Errors of a configuration, in terms of the flags.

use formation_core::ConfigError;

use super::overrides::{LimitFlags, PhiFlags, TimingFlags, shown};

/// Describes an error of the library, which names its own functions and fields.
pub(super) fn describe(error: &ConfigError) -> String {
    match error {
        ConfigError::NoSeeds => {
            "there are no seeds; give the same ones to every node with --seed, or give --single to the only voter"
                .into()
        }
        ConfigError::OnlyOwnSeed { address } => format!(
            "the only seed is {address}, the address of this node, so it would form a cluster alone; give the addresses of \
             all voters to every node with --seed, each voter with an address of its own, or give --single if there is only \
             this voter"
        ),
        ConfigError::Unspecified { address } => format!(
            "{address} is every address of a machine, and no other node can dial it; it is good for --listen, but \
             --advertise, --seed and --contact need the address that other nodes dial"
        ),
        ConfigError::NoStateDir => {
            "--state-dir is empty; name a directory that only this node uses, or leave it out to keep votes in memory"
                .into()
        }
        ConfigError::StateDir { dir } => {
            format!("--state-dir {dir} is no path on this system, because it is not Unicode; choose another directory")
        }
        ConfigError::Protocol { min, max, known } => format!(
            "the program cannot speak the protocol versions {min} to {max}; choose --protocol-min and --protocol-max within \
             {} to {}",
            known.min, known.max
        ),
        ConfigError::Name { field, problem } => format!("{}: {problem}", name_flag(field)),
        ConfigError::TimeOutOfRange { field, value, min, max } => format!(
            "{} is {}, but has to be from {} to {}; choose a time between them",
            flag(field),
            shown(*value),
            shown(*min),
            shown(*max)
        ),
        ConfigError::SizeOutOfRange { field, value, min, max } => {
            let most = if *max == usize::MAX { "any number".into() } else { max.to_string() };
            format!("{} is {value}, but has to be from {min} to {most}", flag(field))
        }
        ConfigError::Times { field, value, relation, other, than } => {
            let (flag, other) = (flag(field), flag(other));
            let (value, than) = (shown(*value), shown(*than));
            format!(
                "{flag} is {value}, but has to be {relation} {other}, which is {than}; raise {flag} or lower {other}"
            )
        }
        ConfigError::LeaseTooShort { left, election_timeout } => format!(
            "--lease less --max-clock-drift-percent is {}, but has to be more than --election-timeout, which is {}; raise \
             --lease or lower --election-timeout",
            shown(*left),
            shown(*election_timeout)
        ),
        ConfigError::LeaseMargin { margin, most } => format!(
            "--lease-margin is {}, but has to be at most {}, half of --lease less --max-clock-drift-percent; lower --lease-margin or raise \
             --lease",
            shown(*margin),
            shown(*most)
        ),
        ConfigError::Sizes { field, value, relation, other, than } => {
            let (flag, other) = (flag(field), flag(other));
            format!(
                "{flag} is {value}, but has to be {relation} {other}, which is {than}; raise {flag} or lower {other}"
            )
        }
        ConfigError::AutopilotOfSoloMasters => {
            "--keep-voters and --solo-after exclude each other: a cluster with solo masters cannot change its voters; leave one of them out"
                .into()
        }
        other => other.to_string(),
    }
}

/// The flag of a field with a name or a list of addresses.
fn name_flag(field: &str) -> &str {
    match field {
        "cluster" => "--cluster",
        "id" => "--id",
        "address" => "--listen or --advertise",
        "seeds" => "--seed",
        "former_seeds" => "--former-seed",
        "contacts" => "--contact",
        other => other,
    }
}

/// The flag of a field with a time or a number. Any other text stays as it is, for example "the number of seeds".
pub(super) fn flag(field: &str) -> String {
    let of_structs = [TimingFlags::FLAGS, PhiFlags::FLAGS, LimitFlags::FLAGS].concat();
    let name = match of_structs.iter().find(|(_, of)| *of == field) {
        Some((flag, _)) => flag,
        None if field == "solo_after" => field,
        None if field == "autopilot.voters" => "keep_voters",
        None if field == "autopilot.replace_after" => "replace_voter_after",
        None => return field.into(),
    };
    format!("--{}", name.replace('_', "-"))
}
