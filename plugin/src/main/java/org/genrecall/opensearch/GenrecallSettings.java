package org.genrecall.opensearch;

import org.genrecall.opensearch.generation.Prompt;
import org.opensearch.common.settings.ClusterSettings;
import org.opensearch.common.settings.Setting;
import org.opensearch.common.settings.Setting.Property;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.unit.TimeValue;

import java.util.List;
import java.util.function.Consumer;
import java.util.regex.Pattern;

/** The plugin's settings and their values now. All are cluster settings that change at run time, save those of TLS. */
public final class GenrecallSettings {

    private static final Pattern HOST_AND_PORT = Pattern.compile("(\\[[0-9a-fA-F:.]+]|[^\\s:/]+):\\d{1,5}");

    public static final Setting<String> ENDPOINT = new Setting<>("genrecall.endpoint", "127.0.0.1:50051", value -> {
        if (HOST_AND_PORT.matcher(value).matches() == false) {
            throw new IllegalArgumentException("[genrecall.endpoint] [" + value + "] is not HOST:PORT, such as 127.0.0.1:50051");
        }
        return value;
    }, Property.NodeScope, Property.Dynamic);

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
    public static final Setting<Integer> CACHE_SIZE = bounded("genrecall.cache.size", 1_000, 0, 1_000_000);

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

    private final ClusterSettings clusterSettings;
    private volatile String endpoint;
    private volatile TimeValue timeout;
    private volatile TimeValue maxTimeout;
    private volatile int maxBeamWidth;
    private volatile int maxK;
    private volatile int maxInFlight;
    private volatile int maxQueryLength;
    private volatile int cacheSize;
    private volatile TimeValue cacheTtl;
    private volatile TimeValue ingestTimeout;
    private volatile int ingestMaxInFlight;

    public GenrecallSettings(Settings settings, ClusterSettings clusterSettings) {
        this.clusterSettings = clusterSettings;
        follow(settings, ENDPOINT, value -> endpoint = value);
        follow(settings, TIMEOUT, value -> timeout = value);
        follow(settings, MAX_TIMEOUT, value -> maxTimeout = value);
        follow(settings, MAX_BEAM_WIDTH, value -> maxBeamWidth = value);
        follow(settings, MAX_K, value -> maxK = value);
        follow(settings, MAX_IN_FLIGHT, value -> maxInFlight = value);
        follow(settings, MAX_QUERY_LENGTH, value -> maxQueryLength = value);
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
            CACHE_SIZE,
            CACHE_TTL,
            INGEST_TIMEOUT,
            INGEST_MAX_IN_FLIGHT,
            TLS_ENABLED,
            TLS_TRUSTED_CERTIFICATES
        );
    }

    /** Runs {@code action} after each change of one of the {@code settings}; the getters then show the new values. */
    public void onChange(Runnable action, Setting<?>... settings) {
        for (Setting<?> setting : settings) {
            clusterSettings.addSettingsUpdateConsumer(setting, value -> action.run());
        }
    }

    public String endpoint() {
        return endpoint;
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

    public int cacheSize() {
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

    private static Setting<Integer> bounded(String key, int byDefault, int min, int max) {
        return Setting.intSetting(key, byDefault, min, max, Property.NodeScope, Property.Dynamic);
    }
}
