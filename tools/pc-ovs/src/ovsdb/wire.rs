//! JSON-RPC 1.0 as OVSDB speaks it (RFC 7047, section 4): objects one after another, with no framing.
//!
//! Pure: bytes in, messages out. Whatever a hostile server sends ends in a [`Malformed`], never in a panic
//! or in unbounded memory.

use serde_json::Value;

/// Most bytes one message may have. A database of 500 ports is about 0.3 MB.
pub const LARGEST: usize = 16 << 20;

/// What a server sent that is not JSON-RPC.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// One message of the other side.
#[derive(Debug, PartialEq)]
pub enum Message {
    /// The answer to the call with this number.
    Reply {
        /// The number we gave the call.
        id: u64,
        /// The answer, or the error object.
        result: Result<Value, Value>,
    },
    /// A call to us: only `echo` is legal, and must be answered.
    Call {
        /// Whatever the server numbered it with; it goes back unchanged.
        id: Value,
        /// The method.
        method: String,
        /// Its parameters.
        params: Value,
    },
    /// News that needs no answer: `update`.
    News {
        /// The method.
        method: String,
        /// Its parameters.
        params: Value,
    },
}

/// Cuts a byte stream into JSON objects by following braces and strings.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: Vec<u8>,
    seen: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Splitter {
    /// Adds what has arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, `None` when more bytes are needed.
    pub fn next(&mut self) -> Result<Option<Message>, Malformed> {
        while self.seen < self.buffer.len() {
            let byte = self.buffer[self.seen];
            self.seen += 1;
            if self.depth == 0 {
                match byte {
                    b'{' => self.depth = 1,
                    b' ' | b'\t' | b'\r' | b'\n' => {}
                    other => {
                        return Err(Malformed(format!("a message begins with byte {other:#04x}, not '{{'")));
                    }
                }
            } else if self.follow(byte) {
                let rest = self.buffer.split_off(self.seen);
                let whole = std::mem::replace(&mut self.buffer, rest);
                self.seen = 0;
                return message(&whole).map(Some);
            }
        }
        if self.buffer.len() > LARGEST {
            return Err(Malformed(format!("a message is longer than {} MiB", LARGEST >> 20)));
        }
        Ok(None)
    }

    /// Follows one byte inside an object; true when it closed the outermost one.
    fn follow(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
        self.depth == 0
    }
}

/// Reads one object as a message.
fn message(bytes: &[u8]) -> Result<Message, Malformed> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| Malformed(error.to_string()))?;
    let Value::Object(mut object) = value else {
        return Err(Malformed("a message is not an object".into()));
    };
    let id = object.remove("id").unwrap_or(Value::Null);
    if let Some(method) = object.remove("method") {
        let Value::String(method) = method else {
            return Err(Malformed("a method is not a string".into()));
        };
        let params = object.remove("params").unwrap_or(Value::Null);
        return Ok(match id {
            Value::Null => Message::News { method, params },
            id => Message::Call { id, method, params },
        });
    }
    let id = id.as_u64().ok_or_else(|| Malformed(format!("a reply is numbered {id}")))?;
    let result = match object.remove("error") {
        None | Some(Value::Null) => Ok(object.remove("result").unwrap_or(Value::Null)),
        Some(error) => Err(error),
    };
    Ok(Message::Reply { id, result })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn all(chunks: &[&[u8]]) -> Result<Vec<Message>, Malformed> {
        let mut splitter = Splitter::default();
        let mut messages = Vec::new();
        for chunk in chunks {
            splitter.push(chunk);
            while let Some(message) = splitter.next()? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    #[test]
    fn objects_are_cut_wherever_the_chunks_end() {
        let stream = br#" {"id":1,"result":[{"a":"}\"{"}],"error":null}
            {"id":"echo","method":"echo","params":[]}{"id":null,"method":"update","params":[0,{}]}"#;
        let expected = [
            Message::Reply { id: 1, result: Ok(json!([{"a": "}\"{"}])) },
            Message::Call { id: json!("echo"), method: "echo".into(), params: json!([]) },
            Message::News { method: "update".into(), params: json!([0, {}]) },
        ];
        assert_eq!(all(&[stream]).unwrap(), expected);
        for cut in 0..stream.len() {
            assert_eq!(all(&[&stream[..cut], &stream[cut..]]).unwrap(), expected, "cut at {cut}");
        }
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(all(&single).unwrap(), expected);
    }

    #[test]
    fn errors_are_replies_too() {
        let reply = all(&[br#"{"id":7,"result":null,"error":{"error":"unknown database"}}"#]).unwrap();
        assert_eq!(reply, [Message::Reply { id: 7, result: Err(json!({"error": "unknown database"})) }]);
    }

    #[test]
    fn what_is_not_json_rpc_is_refused() {
        for bad in [
            &b"HTTP/1.1 400"[..],
            b"[1]",
            b"]",
            br#"{"id":1]"#,
            br#"{"id":"one","result":1}"#,
            br#"{"method":3}"#,
            b"{]}",
            b"{\"a\":\xff}",
        ] {
            assert!(all(&[bad]).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        let deep = [b"{\"a\":".repeat(1000), b"1".to_vec(), b"}".repeat(1000)].concat();
        assert!(all(&[&deep]).is_err());
    }

    #[test]
    fn an_endless_message_is_given_up() {
        let mut splitter = Splitter::default();
        splitter.push(b"{\"a\":\"");
        let megabyte = vec![b'x'; 1 << 20];
        let end = (0..32).find_map(|_| {
            splitter.push(&megabyte);
            splitter.next().err()
        });
        assert!(end.unwrap().to_string().contains("longer than 16 MiB"));
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..2000 {
            let mut bytes = Vec::new();
            for _ in 0..40 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.push(br#"{}[]":,\ante10 "#[usize::try_from(state % 15).unwrap()]);
            }
            let _ = all(&[&bytes]);
        }
    }
}
