//! The reading half of an NBD client, over a unix socket: fixed newstyle negotiation, simple replies.
//! Format: <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

/// A server that says nothing for so long is taken for dead: a read of one segment takes seconds at worst.
const DEADLINE: Duration = Duration::from_secs(120);
const GREETING: u64 = u64::from_be_bytes(*b"NBDMAGIC");
const OPTION: u64 = u64::from_be_bytes(*b"IHAVEOPT");
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
const FIXED_NEWSTYLE: u16 = 1;
/// Client flags: fixed newstyle, no zeroes.
const CLIENT_FLAGS: u32 = 3;
const GO: u32 = 7;
const ACK: u32 = 1;
const INFO: u32 = 3;
/// Servers refuse more at once (`NBD_INFO_BLOCK_SIZE`'s default maximum).
const LARGEST_READ: usize = 32 << 20;

/// A connection to one export.
#[derive(Debug)]
pub struct Client {
    size: u64,
    stream: Mutex<UnixStream>,
}

impl Client {
    /// Connects and picks the export.
    pub fn connect(socket: &Path, export: &str) -> Result<Client> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let size = negotiate(&mut stream, export)?;
        Ok(Client { size, stream: Mutex::new(stream) })
    }

    /// Bytes of the export.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fills the buffer from this offset on.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let mut stream = self.stream.lock().map_err(|_| Error::other("an earlier read panicked"))?;
        let mut at = offset;
        for part in buffer.chunks_mut(LARGEST_READ) {
            read_part(&mut *stream, part, at).map_err(late)?;
            at += part.len() as u64;
        }
        Ok(())
    }
}

fn late(error: Error) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::new(
            ErrorKind::TimedOut,
            format!("the NBD server said nothing for {} s", DEADLINE.as_secs()),
        ),
        _ => error,
    }
}

fn strange(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidData, format!("not an NBD server as expected: {what}"))
}

/// The size of the export.
fn negotiate(stream: &mut (impl Read + Write), export: &str) -> Result<u64> {
    if (number(stream)?, number(stream)?) != (GREETING, OPTION) {
        return Err(strange("another greeting"));
    }
    if u16::from_be_bytes(bytes(stream)?) & FIXED_NEWSTYLE == 0 {
        return Err(strange("no fixed newstyle negotiation"));
    }
    let name = export.as_bytes();
    let name_length = u32::try_from(name.len()).map_err(strange)?;
    let mut hello = CLIENT_FLAGS.to_be_bytes().to_vec();
    hello.extend(OPTION.to_be_bytes());
    hello.extend(GO.to_be_bytes());
    hello.extend((name_length + 6).to_be_bytes());
    hello.extend(name_length.to_be_bytes());
    hello.extend(name);
    hello.extend(0_u16.to_be_bytes());
    stream.write_all(&hello)?;
    let mut size = None;
    // Information that was not asked for may come; a server that never ends it is strange.
    for _ in 0..64 {
        if number(stream)? != OPTION_REPLY || u32::from_be_bytes(bytes(stream)?) != GO {
            return Err(strange("an answer to nothing"));
        }
        let kind = u32::from_be_bytes(bytes(stream)?);
        let length = u32::from_be_bytes(bytes(stream)?);
        if length > 65536 {
            return Err(strange("an answer that is too long"));
        }
        let mut data = vec![0; length as usize];
        stream.read_exact(&mut data)?;
        match (kind, data.as_slice()) {
            (ACK, _) => return size.ok_or_else(|| strange("no size")),
            (INFO, [0, 0, information @ ..]) => {
                size = information.first_chunk().map(|size| u64::from_be_bytes(*size));
            }
            (INFO, _) => {}
            (error, text) if error >> 31 == 1 => {
                let text = String::from_utf8_lossy(text);
                return Err(Error::new(ErrorKind::NotFound, format!("export {export:?} is refused: {text}")));
            }
            (other, _) => return Err(strange(format_args!("answer {other}"))),
        }
    }
    Err(strange("no end of answers"))
}

fn read_part(stream: &mut (impl Read + Write), part: &mut [u8], offset: u64) -> Result<()> {
    let length = u32::try_from(part.len()).map_err(strange)?;
    let mut request = REQUEST.to_be_bytes().to_vec();
    // No flags, NBD_CMD_READ, the offset as a cookie.
    request.extend([0; 4]);
    request.extend(offset.to_be_bytes());
    request.extend(offset.to_be_bytes());
    request.extend(length.to_be_bytes());
    stream.write_all(&request)?;
    if u32::from_be_bytes(bytes(stream)?) != REPLY {
        return Err(strange("another kind of reply"));
    }
    let error = u32::from_be_bytes(bytes(stream)?);
    if number(stream)? != offset {
        return Err(strange("a reply to another request"));
    }
    match i32::try_from(error) {
        Ok(0) => stream.read_exact(part),
        Ok(error) => Err(Error::from_raw_os_error(error)),
        Err(error) => Err(strange(error)),
    }
}

fn bytes<const N: usize>(stream: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn number(stream: &mut impl Read) -> Result<u64> {
    bytes(stream).map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server says, and nowhere to say anything to.
    struct Recorded<'a>(&'a [u8]);

    impl Read for Recorded<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Recorded<'_> {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    fn greeting() -> Vec<u8> {
        let mut bytes = b"NBDMAGICIHAVEOPT".to_vec();
        bytes.extend(3_u16.to_be_bytes());
        bytes
    }

    fn answer(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = OPTION_REPLY.to_be_bytes().to_vec();
        bytes.extend(GO.to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn a_server_cut_anywhere_or_lying_is_an_error() {
        let mut information = vec![0, 0];
        information.extend(4096_u64.to_be_bytes());
        information.extend([0, 1]);
        let whole = [greeting(), answer(INFO, &information), answer(ACK, &[])].concat();
        assert_eq!(negotiate(&mut Recorded(&whole), "vda").unwrap(), 4096);
        for end in 0..whole.len() {
            assert!(negotiate(&mut Recorded(&whole[..end]), "vda").is_err(), "{end}");
        }
        let refused = [greeting(), answer(0x8000_0006, b"no such thing")].concat();
        let error = negotiate(&mut Recorded(&refused), "vdz").unwrap_err();
        assert_eq!(error.to_string(), "export \"vdz\" is refused: no such thing");
        let sizeless = [greeting(), answer(ACK, &[])].concat();
        assert!(negotiate(&mut Recorded(&sizeless), "vda").is_err());
        let endless = [greeting(), answer(INFO, &[0, 9]).repeat(100)].concat();
        assert!(negotiate(&mut Recorded(&endless), "vda").is_err());
        assert!(negotiate(&mut Recorded(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "vda").is_err());
    }

    #[test]
    fn an_error_of_the_server_is_one_here() {
        let mut reply = REPLY.to_be_bytes().to_vec();
        reply.extend(5_u32.to_be_bytes());
        reply.extend(77_u64.to_be_bytes());
        assert_eq!(read_part(&mut Recorded(&reply), &mut [0; 8], 77).unwrap_err().raw_os_error(), Some(5));
        assert!(read_part(&mut Recorded(&reply), &mut [0; 8], 78).is_err(), "another cookie");
    }
}
