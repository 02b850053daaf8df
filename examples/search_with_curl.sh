#!/usr/bin/env bash
# A search by the model's SIDs with nothing but curl, jq and `genrecall generate`:
#
#   examples/search_with_curl.sh "red running shoes" [INDEX [URL [ENDPOINT]]]
#   examples/search_with_curl.sh --plugin "red running shoes" [INDEX [URL]]     # the cluster asks the model itself
#
# Without `genrecall`, grpcurl asks as well (codes come flat, three a SID, and scores are log-probabilities):
#   grpcurl -plaintext -d '{"codebook": "v7", "k": 20, "queries": [{"text": "red running shoes"}]}' \
#     127.0.0.1:50051 genrecall.v1.GenerativeRecall/Generate
set -euo pipefail

plugin=false
if [ "${1:-}" = --plugin ]; then plugin=true && shift; fi
case "${1:---help}" in -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0" && exit ;; esac
text=$1 index=${2:-products} url=${3:-http://127.0.0.1:9200} endpoint=${4:-127.0.0.1:50051}

if $plugin; then
    query=$(jq -n --arg text "$text" '{generative: {sid: {query_text: $text, k: 20}}}')
else
    # An alias of several codebooks needs the SIDs of each: this example takes one.
    codebook=$(curl -sSf "$url/$index/_mapping" | jq -er '[.[].mappings._meta.genrecall.codebook] | unique
        | if length == 1 and .[0] then .[0] else error("one codebook wanted, the mapping names \(.)") end')
    query=$(genrecall generate "$text" --k 20 --bundle "$codebook" --endpoint "$endpoint" --json | jq '
        {bool: {minimum_should_match: 1, should:
            [.sids[] | {constant_score: {filter: {term: {sid: .sid}}, boost: (.score | exp)}}]}}')
fi

jq -n --argjson query "$query" '{query: $query, _source: ["title", "sid"]}' |
    curl -sS --fail-with-body -H 'Content-Type: application/json' "$url/$index/_search" -d @- |
    jq -r '.hits.hits[] | [._score, ._source.sid, ._source.title] | @tsv'
