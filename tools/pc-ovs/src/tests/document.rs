//! The page about this tool says what is so.

use super::planning::wanted;

const PAGE: &str = include_str!("../../../../docs/tools/pc-ovs.md");

#[test]
fn its_cluster_file_means_what_the_table_says() {
    let block = PAGE.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let want = wanted(&format!("schema = \"personal-cluster/1\"\nname = \"doc\"\n{block}"));
    let names: Vec<&str> = want.bridges.iter().map(|bridge| bridge.name.as_str()).collect();
    assert_eq!(names, ["br-lan", "br-wan"]);
    assert_eq!(want.bridges[0].ports[1].name, "bond-lan");
    let host = want.host.unwrap();
    assert_eq!((host.interface.as_str(), host.address.as_str()), ("br-lan", "192.168.0.50/24"));
}
