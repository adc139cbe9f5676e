//! What an input says to a service, or what is wrong with it.

use super::{Fact, Malformed, Told, envelope::Envelope};
use crate::partition_for_key;

/// What a record says; none when its type is not known. `co_partitions`: how many partitions its topic has, when keys
/// decide what goes together.
///
/// **Errors**: it has no key, one that is no text or belongs to another partition, or a payload that is not one of its
/// type.
pub(super) fn told<F: Fact>(
    envelope: &Envelope,
    append_time_us: i64,
    co_partitions: Option<u32>,
    partition: u32,
) -> Result<Option<Told<F>>, Malformed> {
    let kind = envelope.kind();
    let wrong = |wrong: String| Malformed { kind: kind.to_owned(), wrong };
    let Some(key) = envelope.key() else {
        let what = if envelope.has_key() { "the key is no text" } else { "it has no key" };
        return Err(wrong(what.to_owned()));
    };
    if let Some(count) = co_partitions {
        // Its outputs go where the key belongs: another unit would find them, and this one would not.
        let at_home = partition_for_key(key.as_bytes(), count);
        if at_home != partition {
            return Err(wrong(format!("the key {key:?} belongs to partition {at_home}")));
        }
    }
    let fact = F::decode(kind, envelope.value())?;
    let (key, id) = (key.to_owned(), envelope.id().to_owned());
    Ok(fact.map(|fact| Told { key, id, append_time_us, fact }))
}
