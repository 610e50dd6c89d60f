//! The second half of `make demo`: a cluster on real databases loses its region.

use std::path::PathBuf;

use trading::cluster::{objectives::Objectives, spec::FailoverSpec};

use super::{
    SCALE, alone,
    drawing::draw,
    experiments::{programs, region_lost, region_returns},
    stage::{NAME, Stage},
};

/// What `tools/demo` lets through; the rest is the test program's.
fn say(text: &str) {
    println!("› {text}");
}

#[test]
#[ignore = "shows a failover: make demo"]
fn demo() {
    let programs = programs().expect("it needs PostgreSQL 15");
    let _machine = alone();
    say("terraform apply, on PostgreSQL 15; the functions' own program runs");
    let stage = Stage::make(programs);
    say(&format!("made; time passes {SCALE} times as fast from now on"));
    say(&format!("applications in both regions write through {NAME}; then us-east-1 is lost"));
    let (story, measured) = region_lost(&stage, |event| say(&event.to_string()));
    let objectives = Objectives::new(&FailoverSpec::default(), 30, None);
    say("");
    say(&format!("recovery time  {:>5.0} s of {}", story.recovery_time(), objectives.lost_region));
    let (lost, reported) = measured.loss();
    let (written, missing) = measured.rows();
    say(&format!(
        "data loss      {lost:>5.1} s, reported as at most {reported} s, of {} s: {missing} of {written} \
         acknowledged rows",
        objectives.data_loss.seconds()
    ));
    if let Some(path) = std::env::var_os("DEMO_DRAWING").map(PathBuf::from) {
        let title = format!(
            "us-east-1 is lost: {:.0} s until an application writes in us-west-2",
            story.recovery_time()
        );
        std::fs::write(&path, draw(&title, &story, &objectives.lost_region)).unwrap();
        say(&format!("drawn in {}", path.display()));
    }
    say("");
    say("us-east-1 comes back");
    say(region_returns(&stage).more());
    say("terraform plan: no changes, and a warning that us-west-2 writes");
    say("terraform destroy");
    stage.end();
    say("nothing is left in the simulated account, and no PostgreSQL runs");
}
