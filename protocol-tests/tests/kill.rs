//! The server is killed over and over: nothing that was acknowledged is lost. The long run is
//! `cargo run --release -p protocol-tests --bin crash -- kill`.

use protocol_tests::crash::kill::{Plan, run};
use protocol_tests::failure::Failure;
use protocol_tests::server;

#[test]
fn thirty_kills_lose_nothing() -> Result<(), Failure> {
    let binary = server::binary().ok_or_else(|| Failure::new("no windlass binary"))?;
    // An even seed runs relaxed, an odd one synced.
    for seed in [10, 11] {
        let plan = Plan { seed, kills: 15, clients: 4, max_bytes: 300_000 };
        let figures = run(&binary, &plan)?;
        println!("{figures:?}");
    }
    Ok(())
}
