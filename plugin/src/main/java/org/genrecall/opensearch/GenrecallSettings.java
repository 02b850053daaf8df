package org.genrecall.opensearch;

import org.genrecall.opensearch.generation.Prompt;
import org.opensearch.common.settings.ClusterSettings;
import org.opensearch.common.settings.SecureSetting;
import org.opensearch.common.settings.Setting;
import org.opensearch.common.settings.Setting.Property;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.core.common.unit.ByteSizeValue;

import java.io.InputStream;
import java.util.List;
import java.util.function.Consumer;
import java.util.regex.Pattern;

/** The plugin's settings and their values now. All are cluster settings that change at run time, save those of TLS. */
public final class GenrecallSettings {

    private static final Pattern HOST_AND_PORT = Pattern.compile("(\\[[0-9a-fA-F:.]+]|[^\\s:/]+):\\d{1,5}");

    /** One, or several in a list. */
    public static final Setting<List<String>> ENDPOINT = Setting.listSetting(
        "genrecall.endpoint",
        List.of("127.0.0.1:50051"),
        GenrecallSettings::hostAndPort,
        Property.NodeScope,
        Property.Dynamic
    );

    public static final Setting<TimeValue> TIMEOUT = Setting.timeSetting(
        "genrecall.timeout",
        TimeValue.timeValueSeconds(1),
        TimeValue.timeValueMillis(1),
        TimeValue.timeValueSeconds(60),
        Property.NodeScope,
        Property.Dynamic
    );

    public static final Setting<TimeValue> INGEST_TIMEOUT = Setting.timeSetting(
        "genrecall.ingest.timeout",
        TimeValue.timeValueSeconds(30),
        TimeValue.timeValueMillis(1),
        TimeValue.timeValueMinutes(10),
        Property.NodeScope,
        Property.Dynamic
    );

    public static final Setting<Integer> INGEST_MAX_IN_FLIGHT = bounded("genrecall.ingest.max_in_flight", 2, 1, 256);
    /** What a clause may ask for: a call under way holds one of `max_in_flight`. */
    public static final Setting<TimeValue> MAX_TIMEOUT = Setting.timeSetting(
        "genrecall.max_timeout",
        TimeValue.timeValueSeconds(60),
        TimeValue.timeValueMillis(1),
        TimeValue.timeValueSeconds(60),
        Property.NodeScope,
        Property.Dynamic
    );

    public static final Setting<Integer> MAX_BEAM_WIDTH = bounded("genrecall.max_beam_width", 512, 1, Prompt.MAX_K);
    public static final Setting<Integer> MAX_K = bounded("genrecall.max_k", 512, 1, Prompt.MAX_K);
    public static final Setting<Integer> MAX_IN_FLIGHT = bounded("genrecall.max_in_flight", 256, 1, 65_536);
    public static final Setting<Integer> MAX_QUERY_LENGTH = bounded("genrecall.max_query_length", 1_000, 1, 1_000_000);
    /** Clauses of one search request that ask the model at once. */
    public static final Setting<Integer> MAX_CLAUSES = bounded("genrecall.max_clauses", 16, 1, 1_024);

    /** How long a question waits for others to share a call with, while calls are under way; 0: not at all. */
    public static final Setting<TimeValue> BATCH_WINDOW = Setting.timeSetting(
        "genrecall.batch_window",
        TimeValue.timeValueMillis(2),
        TimeValue.ZERO,
        TimeValue.timeValueMillis(100),
        Property.NodeScope,
        Property.Dynamic
    );

    /** Bytes, or a share of the heap. */
    public static final Setting<ByteSizeValue> CACHE_SIZE = Setting.memorySizeSetting(
        "genrecall.cache.size",
        "1%",
        Property.NodeScope,
        Property.Dynamic
    );

    public static final Setting<TimeValue> CACHE_TTL = Setting.timeSetting(
        "genrecall.cache.ttl",
        TimeValue.timeValueMinutes(1),
        TimeValue.timeValueMillis(1),
        Property.NodeScope,
        Property.Dynamic
    );

    public static final Setting<Boolean> TLS_ENABLED = Setting.boolSetting("genrecall.tls.enabled", false, Property.NodeScope);

    /** A PEM file in the node's configuration folder; empty: the authorities that the JDK trusts. */
    public static final Setting<String> TLS_TRUSTED_CERTIFICATES = Setting.simpleString(
        "genrecall.tls.trusted_certificates",
        Property.NodeScope
    );

    /** A PEM file in the node's configuration folder: the certificate that this node shows to the server. */
    public static final Setting<String> TLS_CERTIFICATE = Setting.simpleString("genrecall.tls.certificate", Property.NodeScope);

    /** Its private key, PKCS#8 in PEM, in the node's keystore. */
    public static final Setting<InputStream> TLS_KEY = SecureSetting.secureFile("genrecall.tls.key", null);

    private final ClusterSettings clusterSettings;
    private volatile List<String> endpoints;
    private volatile TimeValue timeout;
    private volatile TimeValue maxTimeout;
    private volatile int maxBeamWidth;
    private volatile int maxK;
    private volatile int maxInFlight;
    private volatile int maxQueryLength;
    private volatile int maxClauses;
    private volatile TimeValue batchWindow;
    private volatile ByteSizeValue cacheSize;
    private volatile TimeValue cacheTtl;
    private volatile TimeValue ingestTimeout;
    private volatile int ingestMaxInFlight;

    public GenrecallSettings(Settings settings, ClusterSettings clusterSettings) {
        this.clusterSettings = clusterSettings;
        follow(settings, ENDPOINT, value -> endpoints = value);
        follow(settings, TIMEOUT, value -> timeout = value);
        follow(settings, MAX_TIMEOUT, value -> maxTimeout = value);
        follow(settings, MAX_BEAM_WIDTH, value -> maxBeamWidth = value);
        follow(settings, MAX_K, value -> maxK = value);
        follow(settings, MAX_IN_FLIGHT, value -> maxInFlight = value);
        follow(settings, MAX_QUERY_LENGTH, value -> maxQueryLength = value);
        follow(settings, MAX_CLAUSES, value -> maxClauses = value);
        follow(settings, BATCH_WINDOW, value -> batchWindow = value);
        follow(settings, CACHE_SIZE, value -> cacheSize = value);
        follow(settings, CACHE_TTL, value -> cacheTtl = value);
        follow(settings, INGEST_TIMEOUT, value -> ingestTimeout = value);
        follow(settings, INGEST_MAX_IN_FLIGHT, value -> ingestMaxInFlight = value);
    }

    public static List<Setting<?>> all() {
        return List.of(
            ENDPOINT,
            TIMEOUT,
            MAX_TIMEOUT,
            MAX_BEAM_WIDTH,
            MAX_K,
            MAX_IN_FLIGHT,
            MAX_QUERY_LENGTH,
            MAX_CLAUSES,
            BATCH_WINDOW,
            CACHE_SIZE,
            CACHE_TTL,
            INGEST_TIMEOUT,
            INGEST_MAX_IN_FLIGHT,
            TLS_ENABLED,
            TLS_TRUSTED_CERTIFICATES,
            TLS_CERTIFICATE,
            TLS_KEY
        );
    }

    /** Runs {@code action} after each change of one of the {@code settings}; the getters then show the new values. */
    public void onChange(Runnable action, Setting<?>... settings) {
        for (Setting<?> setting : settings) {
            clusterSettings.addSettingsUpdateConsumer(setting, value -> action.run());
        }
    }

    public List<String> endpoints() {
        return endpoints;
    }

    public TimeValue timeout() {
        return timeout;
    }

    public TimeValue maxTimeout() {
        return maxTimeout;
    }

    public int maxBeamWidth() {
        return maxBeamWidth;
    }

    public int maxK() {
        return maxK;
    }

    public int maxInFlight() {
        return maxInFlight;
    }

    public int maxQueryLength() {
        return maxQueryLength;
    }

    public int maxClauses() {
        return maxClauses;
    }

    public TimeValue batchWindow() {
        return batchWindow;
    }

    public ByteSizeValue cacheSize() {
        return cacheSize;
    }

    public TimeValue cacheTtl() {
        return cacheTtl;
    }

    public TimeValue ingestTimeout() {
        return ingestTimeout;
    }

    public int ingestMaxInFlight() {
        return ingestMaxInFlight;
    }

    private <T> void follow(Settings settings, Setting<T> setting, Consumer<T> field) {
        field.accept(setting.get(settings));
        clusterSettings.addSettingsUpdateConsumer(setting, field);
    }

    private static String hostAndPort(String value) {
        if (HOST_AND_PORT.matcher(value).matches() == false) {
            throw new IllegalArgumentException("[genrecall.endpoint] [" + value + "] is not HOST:PORT, such as 127.0.0.1:50051");
        }
        return value;
    }

    private static Setting<Integer> bounded(String key, int byDefault, int min, int max) {
        return Setting.intSetting(key, byDefault, min, max, Property.NodeScope, Property.Dynamic);
    }
}
