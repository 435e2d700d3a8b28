//! The page that `pc-verify --html` leaves, and what it cannot say itself: how old it has become. Nothing is asked here.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::facts;

/// Where pc-verify.service leaves it.
const FILE: &str = "run/personal-cluster/page.html";
/// Its place for what is said here.
const AGE: &str = "<!-- age -->";
/// pc-verify.timer makes it each five minutes; two are forgiven.
const OLD: Duration = Duration::from_secs(16 * 60);

/// The page, as of now; none where it was never made.
pub fn page(root: &Path, now: SystemTime) -> Option<String> {
    let path = root.join(FILE);
    let made = std::fs::metadata(&path).and_then(|meta| meta.modified()).ok()?;
    let text = String::from_utf8(facts::read_bounded(&path).ok()?).ok()?;
    // A clock that was set back makes nothing older.
    let age = now.duration_since(made).unwrap_or_default();
    Some(if age > OLD { text.replacen(AGE, &warning(age), 1) } else { text })
}

fn warning(age: Duration) -> String {
    let minutes = age.as_secs() / 60;
    let age = match minutes {
        0..120 => format!("{minutes} min"),
        120..2_880 => format!("{} h", minutes / 60),
        _ => format!("{} d", minutes / 1_440),
    };
    format!("<p class=\"old\">This was {age} ago, and no longer counts: systemctl status pc-verify.timer</p>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_page_says_so() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(page(root.path(), SystemTime::now()), None);
        let path = root.path().join(FILE);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("<p>a</p>\n{AGE}\n<p>{AGE}</p>")).unwrap();
        let made = std::fs::metadata(&path).unwrap().modified().unwrap();
        let told = |minutes: u64| page(root.path(), made + Duration::from_secs(minutes * 60)).unwrap();
        assert!(!told(15).contains("ago") && told(15).contains(AGE));
        for (minutes, age) in [(17, "17 min ago"), (150, "2 h ago"), (6_000, "4 d ago")] {
            assert!(told(minutes).contains(&format!("<p class=\"old\">This was {age}")), "{}", told(minutes));
        }
        assert_eq!(told(17).matches(AGE).count(), 1, "only the first place is for this");
        assert!(!page(root.path(), made - Duration::from_secs(9_000)).unwrap().contains("ago"));
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(page(root.path(), made), None);
    }

    /// The two programs share two words only.
    #[test]
    fn pc_verify_leaves_it_there_with_that_place() {
        let theirs = std::fs::read_to_string("../pc-verify/src/html.rs").unwrap();
        assert!(theirs.contains(&format!("pub const AGE: &str = {AGE:?};")));
        let unit = std::fs::read_to_string("../../units/pc-verify.service").unwrap();
        assert!(unit.contains(&format!("--output /{FILE}\n")));
        let timer = std::fs::read_to_string("../../units/pc-verify.timer").unwrap();
        assert!(timer.contains("OnUnitInactiveSec=5min\n"));
    }
}
