#!/bin/sh
# What must hold of this directory; needs promtool (Debian: prometheus), amtool (prometheus-alertmanager), jq, curl and cargo. PROMTOOL names another one.
set -eu
cd "$(dirname "$0")"
promtool=${PROMTOOL:-promtool}
"$promtool" check rules rules/*.yml > /dev/null
"$promtool" test rules tests/*.yml > /dev/null
"$promtool" check config prometheus.yml > /dev/null
amtool check-config alertmanager.yml > /dev/null

faults=0
fault() { echo "telemetry: $1" >&2; faults=1; }
for rules in rules/*.yml; do
  page=$(basename "$rules" .yml)
  for alert in $(sed -n 's/^ *- alert: //p' "$rules"); do
    grep -q "^## $alert\$" "../docs/runbooks/$page.md" || fault "$alert has no section in docs/runbooks/$page.md"
    anchor=$(echo "$alert" | tr '[:upper:]' '[:lower:]')
    grep -q "runbook: docs/runbooks/$page.md#$anchor\$" "$rules" || fault "$alert names another runbook"
    # A case that fires has expected annotations, a silent one an empty list.
    grep -q "alertname: $alert, exp_alerts: \[\]" tests/*.yml || fault "$alert has no silent case"
    cat tests/*.yml | grep -A1 "alertname: $alert\$" | grep -q 'exp_alerts:$' || fault "$alert has no firing case"
  done
done
# A unit that is renamed must not leave an alert behind that never fires.
for unit in $(grep -oh 'name="[a-z-]*\.\(target\|timer\|service\)"' rules/*.yml | cut -d'"' -f2 | sort -u); do
  [ -e "../units/$unit" ] || fault "units/ has no $unit"
done

# Queries of the dashboards are queries; which metrics they name is a test of pc-exporter. Their variables stand within quotes.
queries=$(mktemp)
jq -n '{groups: [{name: "dashboards", rules: ([inputs.panels[].targets[].expr] | to_entries | map({record: "query:\(.key)", expr: .value}))}]}' \
  dashboards/*.json > "$queries"
"$promtool" check rules "$queries" > /dev/null || fault "a query of dashboards/ is none"
rm -f "$queries"

# A real scrape, of every answer that the tools have on record.
cargo build --quiet --locked -p pc-exporter
exporter=$(cargo metadata --quiet --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug/pc-exporter
work=$(mktemp -d)
trap 'kill "$server" 2> /dev/null || true; rm -rf "$work"' EXIT
server=
run=$work/run/personal-cluster
mkdir -p "$run"
for noun in unlock brick ovs vm trust ha borg config; do
  cp "../tools/pc-$noun/tests/golden/status.json" "$run/$noun.json"
done
cp ../tools/pc-vm/tests/golden/list.json "$run/vm-list.json"
cp ../tools/pc-gluster/tests/golden/status-degraded.json "$run/gluster.json"
cp ../tools/pc-gluster/tests/golden/storage.json "$run/storage.json"
mkfifo "$work/log"
"$exporter" serve --listen 127.0.0.1:0 --root "$work" 2> "$work/log" &
server=$!
exec 3< "$work/log"
read -r line <&3
curl -sf -m 10 "http://${line##* }/metrics" > "$work/scrape"
[ "$(grep -c '^pc_collector_success{.*} 1$' "$work/scrape")" -ge 10 ] || fault "a scrape lacks collectors"
"$promtool" check metrics < "$work/scrape" || fault "promtool finds fault with a scrape"
exit "$faults"
