# Answers of the tools become metrics that promtool accepts and node-exporter's textfile directory takes; several go
# through one pipe; what is no answer is refused. Targets out of the cluster file are JSON that jq reads.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/root/dev/disk/by-id"
truncate -s 64M "$work/root/dev/disk/by-id/ata-A"
cat > "$work/cluster.toml" <<'TOML'
schema = "personal-cluster/1"
name = "home"
[[node]]
name = "node1"
address = "192.168.0.50"
disks.local = ["/dev/disk/by-id/ata-A"]
[volume.local]
use = "local"
TOML
ask() { "$1" status --json --root "$work/root" --node node1 --file "$work/cluster.toml" 2> "$work/log" || { cat "$work/log" >&2; exit 1; }; }
check() { promtool check metrics > "$work/lint" 2>&1 || { cat "$work/lint" >&2; exit 1; }; }

cd "$work"
ask pc-brick | pc-exporter format --output brick.prom
check < brick.prom
grep -q '^pc_brick_mounted{disk="ata-A",volume="local"} 0$' brick.prom
grep -q '^pc_brick_size_bytes{disk="ata-A",volume="local"} 67108864$' brick.prom

# Several documents, in OpenMetrics: each family once, with its unit, and the end mark.
{ ask pc-brick; ask pc-config; } | pc-exporter format --openmetrics > both.txt
[ "$(tail -n 1 both.txt)" = '# EOF' ]
grep -q '^# UNIT pc_brick_size_bytes bytes$' both.txt
grep -q '^pc_config_applied 0$' both.txt
[ "$(grep -c '^# TYPE' both.txt)" = "$(grep '^# TYPE' both.txt | sort -u | wc -l)" ]

# One that is not an answer, the same one twice, and nothing at all.
for input in '{"schema":"pc.nobody/1"}' "$(ask pc-brick) $(ask pc-brick)" '' '{'; do
  code=0
  printf '%s' "$input" | pc-exporter format > out 2> log || code=$?
  [ "$code" = 2 ] && [ ! -s out ] || { echo "exit $code for $input"; cat log; exit 1; }
done

[ "$(pc-exporter targets --file cluster.toml --of node-exporter | jq -r '.[].targets[]')" = 192.168.0.50:9100 ]
[ "$(pc-exporter targets --file cluster.toml --of pc-exporter | jq -c '.[0].labels')" = '{"cluster":"home","node":"node1","role":"pc-exporter"}' ]
# One file of all rules is a file of rules.
pc-exporter rules > rules.yml
promtool check rules rules.yml > lint 2>&1 || { cat lint; exit 1; }
