#!/bin/sh
# Runs Maven on the plugin with the arguments given, and with a JDK 21 or later:
#
#   plugin/build.sh package -DskipTests                 # plugin/target/releases/genrecall-VERSION.zip
#   plugin/build.sh verify                              # the tests too
#   plugin/build.sh test -Dopensearch.version=3.8.0     # against another OpenSearch
#   plugin/build.sh -o verify                           # without a network, once all is downloaded
#
# A `package -DskipTests` whose zip is newer than its sources does nothing. OpenSearch's tests refuse to run as root:
# called by root, Maven runs as `nobody` on a copy of the sources, with its repository in /var/cache/genrecall.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
command -v mvn >/dev/null || { echo "Maven is missing: install the package maven (3.8 or later)" >&2; exit 1; }
JAVA_HOME=$("$here/jdk.sh")
export JAVA_HOME

if [ "$*" = "package -DskipTests" ]; then
    zip=$(ls -t "$here"/target/releases/genrecall-*.zip 2>/dev/null | head -n 1)
    if [ -n "$zip" ] && [ -z "$(find "$here/pom.xml" "$here/build.sh" "$here/src/main" "$root/proto" -newer "$zip")" ]; then
        echo "up to date: $zip"
        exit 0
    fi
fi

# What was built against another release is a trial, not the zip that a later `package -DskipTests` may find up to date.
drop_trial() {
    case "$*" in *-Dopensearch.version=*) rm -rf "$here/target/releases" ;; esac
}

if [ "$(id -u)" -ne 0 ]; then
    status=0
    (cd "$here" && mvn -B -ntp "$@") || status=$?
    drop_trial "$@"
    exit $status
fi

cache=/var/cache/genrecall
user=nobody
install -d -o $user "$cache" "$cache/maven"
work=$(mktemp -d /var/tmp/genrecall-plugin.XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir "$work/plugin"
cp -R "$root/proto" "$work/proto"
cp -R "$here/pom.xml" "$here/src" "$work/plugin"
if [ -d "$here/target" ]; then cp -Rp "$here/target" "$work/plugin"; fi # so that Maven compiles what changed
chown -R $user "$work"
status=0
(
    cd "$work/plugin"
    runuser -u $user -- env HOME="$cache" JAVA_HOME="$JAVA_HOME" mvn -B -ntp -Dmaven.repo.local="$cache/maven" "$@"
) || status=$?
if [ -d "$work/plugin/target" ]; then # it is not there after `clean`
    chown -R 0:0 "$work/plugin/target"
    chmod -R a+rX "$work/plugin/target"
    rm -rf "$here/target"
    mv "$work/plugin/target" "$here/target"
fi
drop_trial "$@"
exit $status
