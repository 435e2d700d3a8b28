//! pc-unlock: opens LUKS devices and sealed secrets through Tang; Clevis-compatible on disk.
//!
//! Never formats, never wipes a keyslot that it has not shown to be its own, never removes the last
//! keyslot of a device, never writes a passphrase to a file, argv, environment or log, never gives out a
//! byte that was not authenticated, and never waits for anything without a deadline.

mod bind;
mod cryptsetup;
mod device;
mod forever;
mod given;
mod header;
mod image;
mod keyfile;
mod lock;
mod luks2;
mod luksmeta;
mod mapper;
mod open;
mod others;
mod places;
mod proof;
mod recover;
mod reencrypted;
mod restore;
mod rotate;
mod salvage;
mod scratch;
mod secrets;
mod settings;
mod signatures;
mod silent;
mod status;
mod systemd;
mod target;
mod text;
mod tpm2;
mod typed;
mod unbind;
mod verbs;
mod vouched;
mod ways;
mod worse;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pc_cli::Common;

/// Open, bind and rotate LUKS devices and sealed secrets through Tang servers
#[derive(Debug, Parser)]
#[command(name = "pc-unlock", version)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    times: settings::Times,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Open devices (all disks of this node by default), all at once
    Open {
        /// LUKS devices
        devices: Vec<String>,
        /// Show that they would open, without opening
        #[arg(long, conflicts_with = "forever")]
        test: bool,
        /// Secrets first, then disks; go on trying for ever (what pc-unlock.service does)
        #[arg(long, conflicts_with = "devices")]
        forever: bool,
    },
    /// Prove every binding of every device without opening anything
    Check {
        /// LUKS devices
        devices: Vec<String>,
        /// Only that the file's servers would take a new binding: no device is asked
        #[arg(long, conflicts_with = "devices")]
        servers: bool,
    },
    /// Tell what is open and what would open the rest, without asking any server
    Status {
        /// Exit with 3 unless everything is open
        #[arg(long)]
        exit_code: bool,
    },
    /// Bind a device to the file's servers; reads an existing passphrase from standard input
    Bind {
        /// LUKS2 device
        device: String,
        /// Pin to bind to instead of the file's, for example {"tang": {"url": "...", "thp": "..."}}
        #[arg(long, value_name = "JSON")]
        pin: Option<String>,
    },
    /// Remove a device's bindings; another keyslot must remain
    Unbind {
        /// LUKS2 device
        device: String,
        /// Only the binding of this keyslot
        #[arg(long, value_name = "SLOT")]
        slot: Option<u32>,
    },
    /// Rebind devices and secrets to the servers' current keys and the file's present servers
    Rotate {
        /// LUKS2 devices (all disks and secrets of this node by default)
        devices: Vec<String>,
    },
    /// Show a server's keys, and the lines that pin them
    Adv {
        /// `http://address[:port][/path]`
        url: String,
        /// Refuse any other server than the one with this thumbprint
        // base64url: one in 64 begins with a hyphen.
        #[arg(long, allow_hyphen_values = true)]
        thumbprint: Option<String>,
    },
    /// Decrypt a JWE (or a LUKS2 token) from standard input, as `clevis decrypt`
    Decrypt,
    /// Encrypt standard input, as `clevis encrypt`
    Encrypt {
        /// tang, sss, tpm2, file
        pin: String,
        /// The pin's configuration, JSON
        config: String,
        /// Trust servers without a thumbprint as they answer
        #[arg(short = 'y', long)]
        trust_on_first_use: bool,
    },
    /// Seal standard input as a secret of this node
    Seal {
        /// Name of the secret
        name: String,
        /// Pin to seal to instead of the file's
        #[arg(long, value_name = "JSON")]
        pin: Option<String>,
    },
    /// Open sealed secrets below /run/personal-cluster/secrets
    Unseal {
        /// Names (all by default)
        names: Vec<String>,
    },
    /// Open devices with the recovery key
    Recover {
        /// LUKS devices (all disks of this node by default)
        devices: Vec<String>,
        /// Where the key is; `-` reads standard input
        #[arg(long, value_name = "FILE")]
        recovery_key_file: Option<PathBuf>,
    },
    /// Back up and restore LUKS headers, encrypted to the recovery key
    #[command(subcommand)]
    Header(HeaderVerb),
}

#[derive(Debug, Subcommand)]
enum HeaderVerb {
    /// Write DIRECTORY/<disk>.jwe for each device
    Backup {
        /// LUKS devices (all disks of this node by default)
        devices: Vec<String>,
        /// Where to (/var/lib/personal-cluster/headers, and a mounted replicated volume, by default)
        #[arg(long, value_name = "DIRECTORY")]
        to: Option<PathBuf>,
        /// Where the recovery key is; `-` reads standard input
        #[arg(long, value_name = "FILE")]
        recovery_key_file: Option<PathBuf>,
        /// The recovery key is right although it opens neither the device nor the backup that is there
        #[arg(long)]
        new_recovery_key: bool,
        /// The header is right although the backup that is there looks better, or is of another one
        #[arg(long)]
        overwrite_good_backup: bool,
    },
    /// Write a backup back to a closed device
    Restore {
        /// The device
        device: String,
        /// The backup (/var/lib/personal-cluster/headers/<disk>.jwe by default)
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// The device carries another LUKS header, or was re-encrypted since: its data is to be lost for good
        #[arg(long)]
        overwrite_other_device: bool,
        /// The device carries something else, a file system for example, that is to be lost for good
        #[arg(long)]
        yes_destroy_all_data_on_it: bool,
        /// Nothing here opens the backup, neither the recovery key nor its servers
        #[arg(long)]
        unproven_backup: bool,
        /// Where the recovery key is; `-` reads standard input
        #[arg(long, value_name = "FILE")]
        recovery_key_file: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    // Memory holds passphrases: no other process of the same user may read it. Where the kernel refuses, it works all the same.
    let _ = nix::sys::prctl::set_dumpable(false);
    pc_cli::main(|cli: Cli| verbs::run(&cli))
}
