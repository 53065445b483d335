//! Uploads that are complete on request: chunks in order, the checksum of all of them, owners.

use super::*;
use crate::{
    rules::Finish,
    store::faulty::{self, FaultyStore, Operation},
    upload::{Completion, Digest},
};

const CONTENT: &[u8] = b"0123456789";

fn wait() -> Wait {
    Wait { at_most: Duration::from_secs(60), stall_after: Duration::from_secs(10) }
}

fn next(target: Target, range: std::ops::Range<u64>) -> Intent {
    Intent::Write(Write {
        digest: Some(Algorithm::Md5),
        length: Some(10),
        ..Write::new(target, At::Next(range), wait())
    })
}

fn owned(id: &UploadId, owner: Option<&str>) -> Subject {
    Subject::Owned(id.clone(), owner.map(str::to_owned))
}

fn finish(of: Subject, content: &[u8]) -> Intent {
    let mut digester = Algorithm::Md5.digester();
    digester.update(content);
    let checksum: Option<Digest> = Some(digester.finish());
    Intent::Finish(Finish { checksum, of, wait: wait() })
}

impl Bench {
    /// An upload of `owner` with the first of its 10 bytes.
    async fn begin_owned(&self, owner: Option<&str>, bytes: u64) -> UploadId {
        let new = NewUpload {
            completion: Completion::OnRequest,
            length: Some(10),
            owner: owner.map(str::to_owned),
            ..NewUpload::default()
        };
        let content = &CONTENT[..usize::try_from(bytes).expect("small")];
        let made = self.run(next(Target::New(new), 0..bytes), whole(content)).await;
        stored(made).expect("made").0.id.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn checksum_of_bytes_that_came_in_order_is_known_p_149() {
    for (is_read, steps) in [(false, &[6, 10][..]), (false, &[10]), (true, &[3, 10])] {
        let store = FaultyStore::new(Arc::new(MemoryStore::default()));
        let faults = store.faults();
        let bench = Bench::on(Arc::new(store), Limits::default());
        let id = bench.begin_owned(None, 3.min(steps[0])).await;
        let mut at = 3.min(steps[0]);
        for end in steps {
            if is_read && *end == 10 {
                // Bytes that another dialect has brought.
                assert_eq!(bench.write(&id, 3, &CONTENT[3..5]).await, Ok(5));
                at = 5;
            }
            let (from, to) =
                (usize::try_from(at).expect("small"), usize::try_from(*end).expect("small"));
            if at < *end {
                let target = Target::Owned(id.clone(), None);
                let written = bench.run(next(target, at..*end), whole(&CONTENT[from..to])).await;
                assert_eq!(stored(written).map(|written| written.1), Ok(*end));
            }
            at = *end;
        }
        faults.fail(Operation::Read, 1, faulty::injected_error);
        let finished = bench.run(finish(owned(&id, None), CONTENT), Content::empty()).await;
        match is_read {
            true => assert_eq!(finished.err(), Some(Refusal::StoreTrouble)),
            false => assert!(stored(finished).expect("known").0.is_complete()),
        }
    }
}

/// Each row: whether the bytes must be read for it, and the requests by which they come: their ends,
/// and whether they have checksums of their own.
#[tokio::test(start_paused = true)]
async fn checksum_in_the_metadata_is_verified_at_completion_d_62() {
    let digest = |bytes: &[u8]| {
        let mut digester = Algorithm::Sha1.digester();
        digester.update(bytes);
        digester.finish()
    };
    let sum = "sha1 h6zsF82dzSCnFsws9nQXtxyKcBY=";
    for (is_read, steps) in [
        (false, &[(10, false)][..]),
        (false, &[(4, false), (7, false), (10, false)]),
        (true, &[(4, true), (10, false)]),
        (true, &[(4, false), (10, true)]),
    ] {
        for is_right in [true, false] {
            let store = FaultyStore::new(Arc::new(MemoryStore::default()));
            let faults = store.faults();
            let bench = Bench::on(Arc::new(store), Limits::default());
            let metadata = Metadata::from_entries([("checksum", sum)]).expect("valid");
            let new = NewUpload { length: Some(10), metadata, ..NewUpload::default() };
            let made = bench.run(creation(new, Checksum::None), Content::empty()).await;
            let id = stored(made).expect("made").0.id.clone();
            let content = if is_right { CONTENT } else { b"0123456780" };
            let mut at = 0;
            let mut last = Ok(0);
            for (end, has_checksum) in steps {
                let bytes = &content[usize::try_from(at).expect("small")..*end];
                let checksum = match has_checksum {
                    true => Checksum::Given(digest(bytes)),
                    false => Checksum::None,
                };
                let target = Target::Existing(id.clone());
                let write = Write { checksum, ..write_to(target, At::Offset(at)) };
                if *end == 10 && !is_read {
                    faults.fail(Operation::Read, 1, faulty::injected_error);
                }
                last = stored(bench.run(Intent::Write(write), whole(bytes)).await)
                    .map(|written| written.1);
                at = u64::try_from(*end).expect("small");
            }
            let expected = if is_right { Ok(10) } else { Err(Refusal::ChecksumMismatch) };
            assert_eq!(last, expected, "{is_read} {steps:?}");
            let upload = bench.engine.store().load(&id).await.expect("there");
            assert_eq!(upload.is_complete(), is_right, "{is_read} {steps:?}");
            assert_eq!(upload.is_full(), is_right, "I-05");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn upload_is_completed_once_by_its_checksum() {
    let bench = bench();
    let id = bench.begin_owned(None, 10).await;
    bench.log.heard();
    let wrong = bench.run(finish(owned(&id, None), b"other"), Content::empty()).await;
    assert_eq!(wrong.err(), Some(Refusal::ChecksumMismatch));
    assert_eq!(bench.log.heard(), [""; 0], "P-112");
    let right = bench.run(finish(owned(&id, None), CONTENT), Content::empty()).await;
    assert!(stored(right).expect("right").0.is_complete());
    assert_eq!(bench.log.heard(), ["finish at 10", "completed"]);
    let again = bench.run(finish(owned(&id, None), CONTENT), Content::empty()).await;
    assert_eq!(again.err(), Some(Refusal::AlreadyComplete), "P-110");
    assert_eq!(bench.fetch(&id).await.as_deref(), Ok(CONTENT));
}

#[tokio::test(start_paused = true)]
async fn uploads_of_one_owner_are_unknown_to_others_p_130_p_133() {
    let bench = bench();
    let owners = [Some("a"), Some("b"), None];
    for owner in owners {
        let id = bench.begin_owned(owner, 5).await;
        for caller in owners {
            let of = || owned(&id, caller);
            let status = bench.run(Intent::Status { of: of() }, Content::empty()).await;
            let target = Target::Owned(id.clone(), caller.map(str::to_owned));
            let repeat = bench.run(next(target, 0..5), whole(&CONTENT[..5])).await;
            let completion = bench.run(finish(of(), CONTENT), Content::empty()).await;
            let unfinished = Refusal::Unfinished { offset: 5, length: Some(10) };
            let is_theirs = caller == owner;
            for (refusal, expected) in
                [(status.err(), None), (repeat.err(), None), (completion.err(), Some(unfinished))]
            {
                let expected = if is_theirs { expected } else { Some(Refusal::Unknown) };
                assert_eq!(refusal, expected, "{owner:?} {caller:?}");
            }
            if !is_theirs {
                let removal = bench.run(Intent::Terminate { of: of() }, Content::empty()).await;
                assert_eq!(removal.err(), Some(Refusal::Unknown));
            }
        }
        let list = Intent::List { owner: owner.map(str::to_owned) };
        let Ok(Outcome::Listed(listed)) = bench.run(list, Content::empty()).await else {
            panic!("a list");
        };
        let ids: Vec<_> = listed.iter().map(|upload| upload.id.clone()).collect();
        assert_eq!(ids, [id]);
    }
}
