//! Every seed, and every input that once showed a fault, by each target without libFuzzer.

use std::{fs, path::Path};

fn run_all(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(target);
    let files = fs::read_dir(&folder).expect("a folder of seeds");
    let paths: Vec<_> = files.map(|file| file.expect("a seed").path()).collect();
    assert!(
        paths.len() >= 10,
        "{} seeds in {}",
        paths.len(),
        folder.display()
    );
    for path in paths {
        let seed = fs::read(&path).expect("a seed");
        println!("{}", path.display());
        run(&seed);
    }
}

#[test]
fn tokens() {
    run_all("token", fuzz::token::run);
}

#[test]
fn policies() {
    run_all("policy", fuzz::policy::run);
}

#[test]
fn heads() {
    run_all("head", fuzz::head::run);
}
