//! The probe: looks at both databases from inside of a VPC, where it makes no call to AWS. It is asked by
//! its region's monitor, and once by the provider, which has it make the role that it logs in with.

use serde::{Deserialize, Serialize};

use super::{Probed, Session};

/// A database's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its DNS name.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// A role and its password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The role.
    pub username: String,
    /// Its password.
    pub password: String,
}

/// Without the password.
impl std::fmt::Debug for Login {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What a probe is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Question {
    /// What both databases show.
    Look {
        /// The own region's.
        here: Place,
        /// The other one.
        there: Place,
        /// The database.
        database: String,
        /// Who looks.
        login: Login,
    },
    /// To make, or mend, the role that looks and its schema, as the master user.
    Prepare {
        /// The writer.
        here: Place,
        /// The database.
        database: String,
        /// The master user.
        master: Login,
        /// The role that is to look.
        login: Login,
    },
    /// To end the sessions of applications.
    EndSessions {
        /// The own region's database.
        here: Place,
        /// The database.
        database: String,
        /// Who ends them.
        login: Login,
    },
}

/// What a probe answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What was seen.
    Looked(Probed),
    /// It is done.
    Done,
    /// It could not be done.
    Failed(String),
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_hold_no_password_when_they_are_printed() {
        let login = Login { username: "probe".into(), password: "hush".into() };
        let here = Place { host: "db".into(), port: 5432 };
        let question = Question::EndSessions { here, database: "trading".into(), login };
        assert!(!format!("{question:?}").contains("hush"));
        let sent = serde_json::to_string(&question).unwrap();
        assert!(sent.contains(r#""action":"end_sessions""#) && sent.contains("hush"));
        assert_eq!(serde_json::from_str::<Question>(&sent).unwrap(), question);
    }
}
