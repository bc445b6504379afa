//! What is particular to this runtime; what both adapters promise is tested in `formation-tests`.

use std::{error::Error, future::Future, io::ErrorKind, net::SocketAddr, time::Duration};

use formation_smol::{Cluster, Config, EVENT_BUFFER, Event, Skipped, Stopped};
use smol::{
    Timer, future,
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};

type Fallible<T = ()> = Result<T, Box<dyn Error>>;

/// Fails instead of hanging.
fn run(test: impl Future<Output = Fallible>) -> Fallible {
    let too_long = async {
        Timer::after(Duration::from_secs(20)).await;
        Err("the test took longer than 20 s".into())
    };
    smol::block_on(future::or(test, too_long))
}

async fn listen() -> Fallible<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

async fn single() -> Fallible<(Cluster, SocketAddr)> {
    let (listener, address) = listen().await?;
    let config = Config::single("smol", "only", address.to_string()).local().build()?;
    Ok((Cluster::start(config, listener)?, address))
}

async fn three() -> Fallible<Vec<Cluster>> {
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(listen().await?);
    }
    let seeds: Vec<String> = listeners.iter().map(|(_, address)| address.to_string()).collect();
    let start = |(number, (listener, _)): (usize, (TcpListener, SocketAddr))| {
        let config = Config::builder("smol", format!("node-{number}"), seeds[number].as_str()).seeds(&seeds);
        Ok(Cluster::start(config.local().build()?, listener)?)
    };
    listeners.into_iter().enumerate().map(start).collect()
}

#[test]
fn three_nodes_form_with_the_lowest_id_as_master() -> Fallible {
    run(async {
        let clusters = three().await?;
        for cluster in &clusters {
            let view = cluster.wait_for_members(3).await?;
            assert_eq!(view.len(), 3);
            let master = cluster.wait_for_master().await?;
            assert_eq!(&master.node, clusters[0].node());
        }
        let leadership = clusters[0].leadership().ok_or("the master has no lease")?;
        assert!(clusters[0].now() < leadership.valid_until);
        assert_eq!(leadership.term, clusters[2].status().term);
        assert!(clusters[1].leadership().is_none());
        Ok(())
    })
}

#[test]
fn leaving_is_seen_by_the_others_and_ends_every_handle() -> Fallible {
    run(async {
        let clusters = three().await?;
        for cluster in &clusters {
            cluster.wait_for_members(3).await?;
        }
        let mut others = clusters[0].watch();
        let mut own = clusters[2].watch();
        let mut events = clusters[2].events();
        clusters[2].leave().await?;
        while others.current().len() != 2 {
            others.changed().await?;
        }
        assert!(clusters[0].view().get(&clusters[2].node().id).is_none());

        while own.changed().await.is_ok() {}
        assert_eq!(own.changed().await, Err(Stopped));
        let mut last = None;
        while let Some(event) = events.next().await {
            last = Some(event?);
        }
        assert!(matches!(last, Some(Event::Stopped { .. })), "{last:?}");
        assert!(clusters[2].set_metadata("late".into()).await.is_err());
        assert_eq!(clusters[2].leave().await, Err(Stopped));
        Ok(())
    })
}

#[test]
fn leaving_frees_the_port_before_it_returns() -> Fallible {
    run(async {
        let (cluster, address) = single().await?;
        cluster.wait_for_master().await?;
        cluster.leave().await?;
        TcpListener::bind(address).await?;
        assert!(cluster.leadership().is_none());
        Ok(())
    })
}

#[test]
fn dropping_the_cluster_closes_its_sockets_and_frees_its_port() -> Fallible {
    run(async {
        let (cluster, address) = single().await?;
        cluster.wait_for_master().await?;
        let mut watch = cluster.watch();
        let mut peer = TcpStream::connect(address).await?;
        drop(cluster);

        while watch.changed().await.is_ok() {}
        // The end of the stream, or a reset when the connection was not accepted yet.
        let mut rest = Vec::new();
        if let Err(error) = peer.read_to_end(&mut rest).await {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        // The cancelled tasks are dropped by the executor, a moment later than the handle.
        while TcpListener::bind(address).await.is_err() {
            future::yield_now().await;
        }
        Ok(())
    })
}

#[test]
fn a_slow_event_reader_is_told_how_many_it_missed() -> Fallible {
    run(async {
        let (cluster, _) = single().await?;
        cluster.wait_for_master().await?;
        // Both begin now, and not at the start as the first one would.
        drop(cluster.events());
        let (mut quick, mut slow) = (cluster.events(), cluster.events());
        let mut all = 0;
        for number in 0..2 * EVENT_BUFFER {
            // Each new metadata is a new view, and thus an event.
            cluster.set_metadata(number.to_be_bytes().to_vec().into()).await?;
            quick.next().await.ok_or("stopped")??;
            all += 1;
        }
        let Some(Err(Skipped(skipped))) = slow.next().await else {
            return Err("nothing was said to be skipped".into());
        };
        assert!(skipped >= u64::try_from(EVENT_BUFFER)?);
        cluster.leave().await?;
        while let Some(event) = quick.next().await {
            event?;
            all += 1;
        }
        let mut received = 0;
        let mut skipped = skipped;
        while let Some(event) = slow.next().await {
            match event {
                Ok(_) => received += 1,
                Err(Skipped(more)) => skipped += more,
            }
        }
        assert_eq!(skipped + received, all);
        Ok(())
    })
}

#[test]
fn metadata_over_the_limit_is_refused_and_changes_nothing() -> Fallible {
    run(async {
        let (cluster, _) = single().await?;
        let before = cluster.wait_for_members(1).await?;
        let refused = cluster.set_metadata(vec![0; 100_000].into()).await;
        assert!(refused.is_err_and(|error| error.to_string().contains("over the limit")));
        assert_eq!(cluster.view(), before);
        Ok(())
    })
}
