//! The file in force, as far as anything that was kept still tells it: a release that refuses more, or a record that is lost,
//! disarms nothing. Pure, but for the warning.

use cluster::{Cluster, Faults};
use pc_cli::log;

use crate::generation::{next, number_in};
use crate::plan::{Have, Place};
use crate::{hosts, status::Status};

/// What was put here before.
#[derive(Debug)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// This. It was checked then, so only its shape matters.
    File(Box<Cluster>),
    /// Something that nobody can read any more, and what a person can do about it.
    Unreadable(String),
}

impl Before {
    /// The file, when it is known.
    pub fn file(&self) -> Option<&Cluster> {
        match self {
            Before::File(file) => Some(file),
            Before::Nothing | Before::Unreadable(_) => None,
        }
    }
}

impl Have {
    /// The record's file, else what the boot units have, else, when both are lost, what stands in cluster.toml. Without any trace
    /// of a put that is only somebody's text.
    pub fn before(&self) -> Before {
        let mut told = Vec::new();
        let record = self.kept.as_ref().map(|(kept, _)| kept.file.as_bytes());
        let record = record.or(self.generation.as_ref().map(String::as_bytes));
        let is_lost = record.is_none() && self.applied.is_none();
        let file = self.file.as_deref().filter(|_| is_lost && hosts::has_block(&self.hosts));
        for (place, text) in
            [(Place::Generation, record), (Place::Applied, self.applied.as_deref()), (Place::File, file)]
        {
            match text.map(|text| cluster::parse_applied(place.path(), text)) {
                None => {}
                Some(_) if place == Place::Generation && self.kept.is_none() => {
                    told.push((place, format!("{place}: is not a generation")));
                }
                Some(Ok(file)) => return Before::File(Box::new(file)),
                Some(Err(faults)) => told.push((place, first_line(&faults))),
            }
        }
        if told.is_empty() { Before::Nothing } else { Before::Unreadable(unreadable(&told)) }
    }

    /// The largest number that is known here, 0 when there is none: what is left of a broken record, or was told last.
    pub fn known_number(&self) -> u64 {
        if let Some((kept, _)) = &self.kept {
            return kept.generation;
        }
        let number = self.generation.as_deref().and_then(number_in).max(self.told);
        // The largest one is given up by removing the record: next().
        number.filter(|number| next(*number).is_ok()).unwrap_or_default()
    }

    /// Says that the record is lost, by which the next number and the VMs would be known.
    pub fn warn_of_loss(&self) {
        if self.kept.is_some() || self.before().file().is_none() {
            return;
        }
        log::warning(format_args!(
            "{} is lost: the new file is compared with {}, and becomes generation {} or later\n  \
             where other nodes have a larger number: pc-config push, there",
            Place::Generation,
            if self.applied.is_some() { Place::Applied } else { Place::File },
            self.known_number() + 1
        ));
    }
}

fn first_line(faults: &Faults) -> String {
    faults.to_string().lines().next().unwrap_or_default().to_string()
}

/// The refusal of whatever would have to know the file.
fn unreadable(told: &[(Place, String)]) -> String {
    let places: Vec<&str> = told.iter().map(|(place, _)| place.path()).collect();
    let faults: Vec<&str> = told.iter().map(|(_, fault)| fault.as_str()).collect();
    format!(
        "the file in force cannot be read, and a VM of it could start twice or with an empty disk: {}\n  \
         copy {} from a node that has it, or install the version that wrote it; only where no VM ever ran: rm {}",
        faults.join("; "),
        Place::Generation,
        places.join(" ")
    )
}

/// The number in what `status` left last.
pub fn told_number(status: &str) -> Option<u64> {
    serde_json::from_str::<Status>(status).ok()?.generation
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::Generation;

    const FILE: &str =
        "schema = \"personal-cluster/1\"\nname = \"home\"\n[[node]]\nname = \"n1\"\naddress = \"10.0.0.1\"\n";

    fn name(have: &Have) -> String {
        match have.before() {
            Before::Nothing => "nothing".into(),
            Before::File(file) => file.name.to_string(),
            Before::Unreadable(told) => told,
        }
    }

    #[test]
    fn whatever_still_tells_the_file_is_asked() {
        let called = |name: &str| FILE.replace("home", name);
        let kept = |file: &str| Some((Generation::new(3, file), false));
        let bytes = |text: &str| Some(text.as_bytes().to_vec());
        let hosts = || hosts::with_block(b"", &cluster::parse("x", FILE).unwrap());
        let applied = || bytes(&called("applied"));
        // A key that this version does not know, an address that it refuses.
        let strange = called("kept").replace("10.0.0.1\"", "fe80::1\"\nlater = true");
        assert!(cluster::parse("x", &strange).is_err());
        for (have, says) in [
            (Have::default(), "nothing"),
            (Have { kept: kept(&strange), applied: applied(), ..Have::default() }, "kept"),
            (Have { kept: kept("schema ="), applied: applied(), ..Have::default() }, "applied"),
            (Have { generation: Some(String::new()), applied: applied(), ..Have::default() }, "applied"),
            (Have { applied: applied(), file: bytes(FILE), ..Have::default() }, "applied"),
            (Have { file: bytes(FILE), hosts: hosts(), ..Have::default() }, "home"),
            (Have { file: bytes(FILE), ..Have::default() }, "nothing"),
            (Have { file: bytes("schema ="), ..Have::default() }, "nothing"),
        ] {
            assert_eq!(name(&have), says, "{have:?}");
        }
        for (have, says) in [
            (
                Have { generation: Some(String::new()), ..Have::default() },
                "generation.json: is not a generation\n",
            ),
            (Have { applied: bytes(""), file: bytes(FILE), ..Have::default() }, "applied.json: is empty\n"),
            (
                Have { file: bytes("schema ="), hosts: hosts(), ..Have::default() },
                "cluster.toml:1:9: is not TOML",
            ),
            (
                Have { kept: kept("{"), applied: bytes("{"), ..Have::default() },
                "rm /var/lib/personal-cluster/generation.json /var/lib/personal-cluster/applied.json",
            ),
        ] {
            assert!(name(&have).contains(says), "{}", name(&have));
        }
    }

    #[test]
    fn the_number_outlives_its_record() {
        let generation = Generation::new(7, FILE).to_text().unwrap();
        let signed =
            serde_json::json!({ "schema": "pc.trust.envelope/1", "content": generation }).to_string();
        for (text, told, number) in [
            (Some(&generation[..generation.len() / 2]), None, 7),
            (Some(&signed[..signed.len() / 2]), Some(3), 7),
            (Some(""), Some(3), 3),
            (None, Some(3), 3),
            (None, None, 0),
            (None, Some(1 << 53), 0),
            (Some("{\"generation\": \"many\"}"), None, 0),
            (Some("{\"generation\": 99999999999999999999}"), None, 0),
        ] {
            let have = Have { generation: text.map(Into::into), told, ..Have::default() };
            assert_eq!(have.known_number(), number, "{text:?}");
        }
        assert_eq!(told_number("{\"schema\": \"x\", \"node\": \"n\", \"generation\": 4}"), Some(4));
        assert_eq!(told_number("{"), None);
    }
}
