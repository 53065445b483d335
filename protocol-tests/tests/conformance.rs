//! Holds the windlass binary against every case.

use protocol_tests::run::{Target, run};
use protocol_tests::{contract, server};

#[test]
fn windlass_conforms() {
    let binary = server::binary().expect(
        "the windlass binary is needed: run `cargo build --release` first, or set WINDLASS_BIN",
    );
    let report = run(&contract::ALL, &Target::Binary(binary), "").expect("the servers start");
    let (passed, failed, skipped) = report.counts();
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    assert!(failed == 0 && skipped == 0, "\n{}", report.text(false));
}
