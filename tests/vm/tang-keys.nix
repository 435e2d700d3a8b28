# The tang box's keys, new with every build, and the thumbprint that the cluster file pins: known before a machine runs,
# which is why evaluating the tests builds this (import from derivation).
{ runCommand, jose }:
runCommand "tang-test-keys" { nativeBuildInputs = [ jose ]; } ''
  mkdir $out && cd $out
  for algorithm in ES512 ECMR; do
    jose jwk gen --input "{\"alg\":\"$algorithm\"}" --output new
    thumbprint=$(jose jwk thp --input new --algorithm S256)
    mv new "$thumbprint.jwk"
    [ $algorithm = ECMR ] || printf %s "$thumbprint" > thumbprint
  done
''
