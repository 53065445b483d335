//! The disk loses power over and over: nothing that was acknowledged is lost. The long run is
//! `cargo run --release -p protocol-tests --bin crash -- power`.

use protocol_tests::crash::mount::{FileSystem, can_mount};
use protocol_tests::crash::power::{Plan, run};
use protocol_tests::failure::Failure;
use protocol_tests::server;

#[test]
fn power_cuts_lose_nothing() -> Result<(), Failure> {
    let binary = server::binary().ok_or_else(|| Failure::new("no windlass binary"))?;
    if !can_mount()? {
        return Ok(());
    }
    for (file_system, cuts) in [(FileSystem::Ext4, 8), (FileSystem::Xfs, 4)] {
        let plan = Plan { seed: 20, cuts, clients: 4, max_bytes: 100_000, file_system };
        println!("{file_system:?}: {}", run(&binary, &plan)?);
    }
    Ok(())
}
