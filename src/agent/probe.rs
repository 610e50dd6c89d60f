//! The probe: looks at both databases from inside of a VPC, where it makes no call to AWS. It is asked by
//! its region's monitor, and once by the provider, which has it make the role that it logs in with.

use super::{Probed, Session};
pub use crate::contract::{Answer, Login, Place, Question};

/// Ways to a database.
pub trait Database {
    /// What a session shows; on a writer a heartbeat is written.
    fn look(
        &self,
        place: &Place,
        database: &str,
        login: &Login,
    ) -> impl Future<Output = Session> + Send;

    /// Makes the role that looks, with what it needs.
    fn prepare(
        &self,
        place: &Place,
        database: &str,
        master: &Login,
        login: &Login,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// Ends the sessions of everybody but the role that looks and RDS's own.
    fn end_sessions(
        &self,
        place: &Place,
        database: &str,
        login: &Login,
    ) -> impl Future<Output = Result<(), String>> + Send;
}

/// Answers a question.
pub async fn answer(databases: &impl Database, question: &Question) -> Answer {
    let done = |result: Result<(), String>| match result {
        Ok(()) => Answer::Done,
        Err(why) => Answer::Failed(why),
    };
    match question {
        Question::Look { here, there, database, login } => {
            let (here, there) = futures::join!(
                databases.look(here, database, login),
                databases.look(there, database, login)
            );
            Answer::Looked(Probed { here, there })
        }
        Question::Prepare { here, database, master, login } => {
            done(databases.prepare(here, database, master, login).await)
        }
        Question::EndSessions { here, database, login } => {
            done(databases.end_sessions(here, database, login).await)
        }
    }
}
