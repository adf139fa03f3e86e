//! The bytes of a RangeResponse, key-value by key-value: exactly those of the message encoded as a whole.

use bytes::{BufMut, Bytes, BytesMut};
use keepstone_proto::KeyValue;
use keepstone_proto::etcdserverpb::{RangeResponse, ResponseHeader};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tonic::Status;

/// The field of the key-values in a RangeResponse.
const KVS: u32 = 2;
/// The longest message: what etcd's server sends at most.
const LONGEST: u64 = i32::MAX as u64;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One gRPC message with its frame.
    Grpc,
    /// The message's JSON.
    Json,
}

/// Everything of a RangeResponse but its key-values, and what they come to.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub header: ResponseHeader,
    pub more: bool,
    pub count: usize,
    /// Bytes of the key-values' fields: the sum of [`field_len`].
    pub kvs_bytes: u64,
}

/// Bytes that a key-value takes in the message.
pub fn field_len(kv: &KeyValue) -> u64 {
    let len = kv.raw().len() as u64;
    (key_len(KVS) + encoded_len_varint(len)) as u64 + len
}

impl Frame {
    /// # Errors
    /// grpc-go's, for a message that is too long to be sent.
    pub fn check(&self) -> Result<(), Status> {
        let len = self.message_len();
        if len <= LONGEST {
            return Ok(());
        }
        Err(Status::resource_exhausted(format!("grpc: trying to send message larger than max ({len} vs. {LONGEST})")))
    }

    fn message_len(&self) -> u64 {
        (self.before().encoded_len() + self.after().encoded_len()) as u64 + self.kvs_bytes
    }

    fn before(&self) -> RangeResponse {
        RangeResponse { header: Some(self.header), ..RangeResponse::default() }
    }

    fn after(&self) -> RangeResponse {
        let count = i64::try_from(self.count).expect("no range has 2^63 keys");
        RangeResponse { more: self.more, count, ..RangeResponse::default() }
    }
}

/// Writes one answer into a buffer that its owner empties.
pub struct Writer {
    format: Format,
    frame: Frame,
    written: u64,
    out: BytesMut,
}

impl Writer {
    /// The frame must have passed [`Frame::check`].
    pub fn new(format: Format, frame: Frame) -> Self {
        let mut out = BytesMut::new();
        match format {
            Format::Grpc => {
                out.put_u8(0);
                out.put_u32(u32::try_from(frame.message_len()).expect("the length was checked"));
                frame.before().encode(&mut out).expect("a buffer grows");
            }
            Format::Json => {
                let before = json_of(&frame.before());
                // The object goes on.
                out.put_slice(&before.as_bytes()[..before.len() - 1]);
            }
        }
        Self { format, frame, written: 0, out }
    }

    /// Adds the next key-value.
    pub fn put(&mut self, kv: &KeyValue) {
        match self.format {
            Format::Grpc => {
                encode_key(KVS, WireType::LengthDelimited, &mut self.out);
                encode_varint(kv.raw().len() as u64, &mut self.out);
                self.out.put_slice(kv.raw());
            }
            Format::Json => {
                self.out.put_slice(if self.written == 0 { b",\"kvs\":[" } else { b"," });
                self.out.put_slice(json_of(kv).as_bytes());
            }
        }
        self.written += field_len(kv);
    }

    /// Adds the end. False when the key-values are not the ones that were measured: then nothing of this is an answer.
    #[must_use]
    pub fn finish(&mut self) -> bool {
        let after = self.frame.after();
        match self.format {
            Format::Grpc => after.encode(&mut self.out).expect("a buffer grows"),
            Format::Json => {
                if self.written > 0 {
                    self.out.put_u8(b']');
                }
                let after = json_of(&after);
                self.out.put_slice(if after == "{}" { b"" } else { b"," });
                self.out.put_slice(&after.as_bytes()[1..]);
            }
        }
        self.written == self.frame.kvs_bytes
    }

    /// Bytes that wait to be taken.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Takes the first `bytes` of what is written.
    pub fn take(&mut self, bytes: usize) -> Bytes {
        if bytes < self.out.len() {
            return self.out.split_to(bytes).freeze();
        }
        // A fresh buffer of the size that was needed, instead of one that grows from nothing again.
        let next = BytesMut::with_capacity(self.out.capacity());
        std::mem::replace(&mut self.out, next).freeze()
    }
}

fn json_of(message: &impl serde::Serialize) -> String {
    serde_json::to_string(message).expect("every message has a JSON form")
}

#[cfg(test)]
mod tests {
    use keepstone_proto::KeyValueParts;

    use super::*;

    fn kv(key: &str, value: usize) -> KeyValue {
        let value = vec![b'v'; value];
        KeyValue::new(&KeyValueParts { key: key.as_bytes(), mod_revision: 7, value: &value, ..Default::default() })
    }

    fn written(format: Format, response: &RangeResponse) -> Vec<u8> {
        let header = response.header.expect("an answer has a header");
        let frame = Frame {
            header,
            more: response.more,
            count: response.count as usize,
            kvs_bytes: response.kvs.iter().map(field_len).sum(),
        };
        frame.check().expect("it is short");
        let mut writer = Writer::new(format, frame);
        response.kvs.iter().for_each(|kv| writer.put(kv));
        assert!(writer.finish());
        writer.take(usize::MAX).to_vec()
    }

    fn answers() -> Vec<RangeResponse> {
        let header = Some(ResponseHeader { cluster_id: 1, member_id: 2, revision: 3, raft_term: 4 });
        let kvs = vec![kv("a", 0), kv("b", 100), kv("c", 130), kv("d", 20_000)];
        vec![
            RangeResponse { header, ..Default::default() },
            RangeResponse { header, count: 9, ..Default::default() },
            RangeResponse { header: Some(ResponseHeader::default()), kvs: kvs.clone(), ..Default::default() },
            RangeResponse { header, kvs, more: true, count: 1 << 40 },
        ]
    }

    #[test]
    fn the_frame_is_that_of_the_whole_message() {
        for response in answers() {
            let message = response.encode_to_vec();
            let mut wanted = vec![0];
            wanted.extend_from_slice(&u32::try_from(message.len()).expect("short").to_be_bytes());
            wanted.extend_from_slice(&message);
            assert_eq!(written(Format::Grpc, &response), wanted);
        }
    }

    #[test]
    fn the_json_is_that_of_the_whole_message() {
        for response in answers() {
            let text = String::from_utf8(written(Format::Json, &response)).expect("text");
            assert_eq!(text, serde_json::to_string(&response).expect("JSON"));
        }
    }

    #[test]
    fn a_message_that_etcd_could_not_send_is_refused_in_its_words() {
        let frame = Frame { header: ResponseHeader::default(), more: false, count: 0, kvs_bytes: LONGEST };
        let error = frame.check().expect_err("it is too long");
        assert_eq!(error.code(), tonic::Code::ResourceExhausted);
        assert_eq!(error.message(), "grpc: trying to send message larger than max (2147483649 vs. 2147483647)");
    }

    #[test]
    fn key_values_that_do_not_add_up_are_no_answer() {
        let frame = Frame { header: ResponseHeader::default(), more: false, count: 1, kvs_bytes: 1000 };
        let mut writer = Writer::new(Format::Grpc, frame);
        writer.put(&kv("a", 5));
        assert!(!writer.finish());
    }
}
