//! Keeps one instance's server as the account says it is: made, up or down, following or not, with its settings,
//! its password and its slots.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
};

use serde_json::json;

use super::{
    Laboratory, network,
    server::{Contact, Failed, First, Server},
    settings,
};
use crate::services::rds::{Origin, Wanted};

/// Between two looks at the account, in milliseconds of its time.
const LOOK: u64 = 1000;
/// Between two measurements, in looks.
const MEASURE: u64 = 60;

/// An instance by its region and name, and RDS's id of it: another one of the same name is another instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) region: String,
    pub(super) id: String,
    pub(super) resource: String,
}

impl Key {
    /// What its slot is called at its source.
    fn slot(&self) -> String {
        let text = format!("rds_{}_{}", self.region, self.resource).to_lowercase();
        text.replace(|one: char| !one.is_ascii_alphanumeric(), "_")
    }
}

/// What is done for an instance.
/// What PostgreSQL and pg_ctl say of a start that fails for reasons of the machine.
const PASSING: [&str; 3] =
    ["did not start in time", "Address already in use", "could not create lock file"];

struct Keeper {
    key: Key,
    server: Server,
    is_made: bool,
    settings: String,
    password: String,
    looks: u64,
    /// The file of its source's log that has to be archived before a moment can be restored.
    awaited: Option<String>,
}

/// Keeps an instance until it is gone.
pub(super) async fn keep(laboratory: Weak<Laboratory>, key: Key) {
    let mut keeper: Option<Keeper> = None;
    loop {
        let Some(lab) = laboratory.upgrade() else { return };
        let scale = lab.sandbox.lock().clock.scale();
        let wanted = lab.sandbox.with(|world| world.wanted(&key.region, &key.id, &key.resource));
        let Some(wanted) = wanted else {
            lab.forget(&key);
            if let Some(keeper) = keeper {
                keeper.server.remove().await;
            }
            return;
        };
        if keeper.is_none() {
            let name = format!("db-{}", key.resource.to_lowercase());
            match Server::new(&lab.programs, &lab.scratch, &name) {
                Ok(server) => keeper = Some(Keeper::new(&key, server)),
                Err(why) => lab.sandbox.with(|world| world.engine_says(&key.region, &key.id, &why)),
            }
        }
        if let Some(keeper) = &mut keeper {
            let lines = settings::rendered(&wanted.record, &key.region, scale);
            if let Err(why) = keeper.step(&lab, &wanted, lines).await {
                lab.sandbox.with(|world| world.engine_says(&key.region, &key.id, &why));
            }
        }
        let sandbox = lab.sandbox.clone();
        drop(lab);
        sandbox.pass(LOOK).await;
    }
}

impl Keeper {
    fn new(key: &Key, server: Server) -> Self {
        let (settings, password) = (String::new(), String::new());
        Self {
            key: key.clone(),
            server,
            is_made: false,
            settings,
            password,
            looks: 0,
            awaited: None,
        }
    }

    async fn step(
        &mut self,
        lab: &Arc<Laboratory>,
        wanted: &Wanted,
        lines: String,
    ) -> Result<(), Failed> {
        if !self.is_made {
            self.make(lab, wanted).await?;
            self.is_made = true;
            lab.sandbox.with(|world| world.engine_is_ready(&self.key.region, &self.key.id));
        }
        if self.server.is_running() && !wanted.is_up {
            lab.closed(&self.key);
            if !wanted.is_lost {
                self.back_up(lab).await?;
            }
            // A region that is lost has no time to do it well.
            let mode = if wanted.is_lost { "immediate" } else { "fast" };
            self.server.stop(mode).await?;
        }
        if !self.server.is_running() && wanted.is_up {
            self.server.configure(&lines, &lab.archive(&self.key.resource)?)?;
            self.settings.clone_from(&lines);
            if let Err(why) = self.server.start(&lab.scratch).await {
                // The machine's fault, and no parameter's: it is tried again.
                let is_passing = PASSING.iter().any(|text| why.contains(text));
                if !is_passing {
                    lab.sandbox
                        .with(|world| world.engine_cannot_start(&self.key.region, &self.key.id));
                }
                return Err(why);
            }
            lab.opened(&self.key, &self.server.contact);
        }
        if !self.server.is_running() {
            return Ok(());
        }
        if wanted.source.is_none() && self.server.is_standby() {
            self.server.promote().await?;
        }
        if self.settings != lines {
            self.server.configure(&lines, &lab.archive(&self.key.resource)?)?;
            self.settings.clone_from(&lines);
            if self.server.reload().await? {
                self.server.stop("fast").await?;
                self.server.start(&lab.scratch).await?;
            }
        }
        if wanted.source.is_none() && self.password != wanted.password {
            let (role, password) = (&wanted.username, &wanted.password);
            self.server.contact.set_password(role, password).await?;
            self.password.clone_from(password);
        }
        self.looks += 1;
        if self.looks % MEASURE == 1 {
            self.drop_slots(lab).await?;
            self.measure(lab, wanted).await?;
        }
        self.back_up(lab).await
    }

    async fn make(&mut self, lab: &Arc<Laboratory>, wanted: &Wanted) -> Result<(), Failed> {
        match &wanted.origin {
            Origin::New => {
                let first = First {
                    username: &wanted.username,
                    password: &wanted.password,
                    database: wanted.database.as_deref().filter(|name| *name != "postgres"),
                };
                self.password.clone_from(&wanted.password);
                self.server.create(&lab.scratch, &lab.archive(&self.key.resource)?, &first).await
            }
            Origin::Replica => {
                let source = wanted.source.clone().ok_or("a replica of nothing")?;
                let contact = lab.contact(&source).ok_or("its source is not up yet")?;
                let here = (self.key.region.clone(), self.key.id.clone());
                let link =
                    network::link(lab, &here, &source).await.map_err(|error| error.to_string())?;
                self.server.follow(&contact, link, &self.key.slot()).await
            }
            Origin::Snapshot(folder) => {
                let folder = folder.as_ref().ok_or("the snapshot is not taken yet")?;
                self.server.restore(folder, None).await
            }
            Origin::Moment(base, of, moment) => {
                let base = base.as_ref().ok_or("there is no backup from before that moment")?;
                let archive = lab.archive(of)?;
                let source = lab.sandbox.with(|world| world.instance_with(of));
                if self.awaited.is_none()
                    && let Some(source) = source.and_then(|source| lab.contact(&source))
                {
                    self.awaited = Some(source.archive_now().await?);
                }
                if let Some(file) = self.awaited.as_ref().filter(|one| !archive.join(one).exists())
                {
                    return Err(format!("{file} is not archived yet"));
                }
                let at = lab.sandbox.lock().clock.on_the_machine(*moment);
                self.server.restore(base, Some((&archive, at))).await
            }
        }
    }

    /// What followed and does no more has no slot any longer.
    async fn drop_slots(&self, lab: &Laboratory) -> Result<(), Failed> {
        let replicas: BTreeSet<String> = lab
            .sandbox
            .with(|world| world.replicas_of(&self.key.region, &self.key.id))
            .into_iter()
            .map(|(region, id, resource)| Key { region, id, resource }.slot())
            .collect();
        let idle = "SELECT slot_name FROM pg_replication_slots WHERE NOT active AND slot_name LIKE 'rds_%'";
        let idle = self.server.contact.admin("postgres", idle).await?;
        for slot in idle.lines().filter(|slot| !replicas.contains(*slot)) {
            let sql = format!("SELECT pg_drop_replication_slot('{slot}')");
            self.server.contact.admin("postgres", &sql).await?;
        }
        Ok(())
    }

    /// What RDS would tell CloudWatch, as PostgreSQL sees it.
    async fn measure(&self, lab: &Laboratory, wanted: &Wanted) -> Result<(), Failed> {
        let scale = lab.sandbox.lock().clock.scale();
        let sessions =
            "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')";
        let names: &[&str];
        let rest = if wanted.source.is_some() {
            names = &["DatabaseConnections", "ReplicaLag"];
            "coalesce(extract(epoch FROM now() - pg_last_xact_replay_timestamp()), 0)"
        } else {
            names =
                &["DatabaseConnections", "OldestReplicationSlotLag", "TransactionLogsDiskUsage"];
            "coalesce((SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)) FROM pg_replication_slots), 0),
             (SELECT sum(size) FROM pg_ls_waldir())"
        };
        let said =
            self.server.contact.admin("postgres", &format!("SELECT {sessions}, {rest}")).await?;
        let mut metrics = json!({});
        for (name, text) in names.iter().zip(said.split('|')) {
            let value: f64 = text.parse().unwrap_or(0.0);
            // PostgreSQL's seconds are the machine's.
            let value = if *name == "ReplicaLag" { value * scale } else { value };
            metrics[*name] = value.into();
        }
        lab.sandbox.with(|world| world.engine_measured(&self.key.region, &self.key.id, metrics));
        Ok(())
    }

    /// Snapshots that were asked for, and are not there yet.
    async fn back_up(&self, lab: &Laboratory) -> Result<(), Failed> {
        let due = lab.sandbox.with(|world| world.snapshots_due(&self.key.region, &self.key.id));
        for snapshot in due {
            let folder = lab.new_folder()?;
            self.server.contact.back_up(&folder).await?;
            lab.sandbox.with(|world| world.snapshot_taken(&self.key.region, &snapshot, &folder));
        }
        Ok(())
    }
}

impl Laboratory {
    fn forget(&self, key: &Key) {
        self.closed(key);
        super::locked(&self.kept).remove(key);
    }

    fn opened(&self, key: &Key, contact: &Contact) {
        let name = (key.region.clone(), key.id.clone());
        super::locked(&self.contacts).insert(name, contact.clone());
    }

    fn closed(&self, key: &Key) {
        super::locked(&self.contacts).remove(&(key.region.clone(), key.id.clone()));
    }
}
