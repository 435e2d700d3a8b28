#!/bin/sh
# What must hold of this directory; needs promtool (Debian: prometheus). PROMTOOL names another one.
set -eu
cd "$(dirname "$0")"
promtool=${PROMTOOL:-promtool}
"$promtool" check rules rules/*.yml > /dev/null
"$promtool" test rules tests/*.yml > /dev/null
"$promtool" check config prometheus.yml > /dev/null

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
exit "$faults"
