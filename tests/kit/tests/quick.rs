use formation_testing::TestNode;
use std::time::{Duration, Instant};
#[test]
fn quick() {
    let began = Instant::now();
    let lines = || {
        formation_testing::tokio::Network::new(7).run(async |network| {
            let cluster = network
                .services(3, async |node: TestNode| {
                    node.run_while_master(async |lease| {
                        loop {
                            node.record(lease.term());
                            tokio::time::sleep(Duration::from_millis(100)).await;
                        }
                    })
                    .await
                })
                .await;
            let first = cluster.assert_one_master();
            cluster.advance(Duration::from_secs(1)).await;
            cluster.kill(&first.node.id);
            let second = cluster.wait_for_new_master(first.term).await;
            cluster.advance(Duration::from_secs(1)).await;
            cluster.restart(&first.node.id);
            cluster.wait_for_members(3).await;
            cluster.pause(&second.node.id);
            let third = cluster.wait_for_new_master(second.term).await;
            cluster.resume(&second.node.id);
            cluster.wait_for_members(3).await;
            cluster.partition([&third.node.id]);
            cluster.wait_for_new_master(third.term).await;
            cluster.heal();
            cluster.wait_for_members(3).await;
            cluster.power_off("node-b");
            cluster.advance(Duration::from_secs(10)).await;
            cluster.restart("node-b");
            cluster.wait_for_members(3).await;
            cluster.advance(Duration::from_secs(60)).await;
            (cluster.history(), cluster.now(), cluster.steps())
        })
    };
    let (history, now, steps) = lines();
    println!("{}\n{now:?} {steps} {:?}", history.join("\n"), began.elapsed());
    for _ in 0..5 {
        assert_eq!((history.clone(), now, steps), lines());
    }
}
#[test]
fn quick_smol() {
    let began = Instant::now();
    formation_testing::smol::Network::new(7).run(async |network| {
        let cluster = network
            .services(3, async |node: TestNode| {
                node.run_while_master(async |lease| {
                    loop {
                        node.record(lease.term());
                        smol::Timer::after(Duration::from_millis(100)).await;
                    }
                })
                .await
            })
            .await;
        let first = cluster.assert_one_master();
        cluster.kill(&first.node.id);
        cluster.wait_for_new_master(first.term).await;
        cluster.restart(&first.node.id);
        cluster.wait_for_members(3).await;
        println!("{}\n{:?} {:?}", cluster.history().join("\n"), cluster.now(), began.elapsed());
    });
}
