<?php

/**
 * Puts taskbus.php together, the one file that serves tasks over HTTP:
 *
 *     php clients/php/build.php [FILE]
 */

declare(strict_types=1);

const CLASSES = [
    'TaskInterface', 'TaskInput', 'TaskResult', 'TaskFailure', 'Tasks', 'Answer', 'Portable', 'Json',
    'HttpDoor', 'HttpSettings', 'HttpRoute', 'HttpReply', 'HttpRefusal', 'HttpGone',
];

const HEAD = <<<'PHP'
    <?php

    /**
     * Tasks in PHP behind a web server: every class below one folder that implements
     * Taskbus\TaskInterface, for `http` entries of the API map. This file is all that it takes; how to
     * serve it is in docs/php.md. The folder is for classes only: each file in it can be loaded by
     * whoever may call.
     */

    declare(strict_types=1);

    namespace Taskbus;

    // A parameter of FastCGI, or an environment variable, of the same name counts more.
    HttpDoor::serve([
        // The folder of the classes: Disk\GetFreeSpace is in Disk/GetFreeSpace.php. Behind nginx or Apache name
        // one that is not below the document root: there, whoever asks would be shown the source.
        'TASKBUS_TASKS' => __DIR__ . '/tasks',
        // The URIs below it are classes: with 'com.example.shop', com.example.shop.disk.get_free_space is
        // Disk\GetFreeSpace. With '', the whole URI is the name of a class.
        'TASKBUS_NAMESPACE' => '',
        // The namespace that all classes are in, such as 'Example\Shop'.
        'TASKBUS_CLASSES' => '',
        // The file of the secret that callers send; with '', only programs on this machine may call.
        'TASKBUS_SECRET_FILE' => '',
        // The header that has it: 'Authorization', as 'Bearer SECRET', or another one with the secret alone.
        'TASKBUS_HEADER' => 'Authorization',
        // Seconds of CPU time that a call may use.
        'TASKBUS_SECONDS' => 300,
    ]);

    // What follows is made from clients/php/src by clients/php/build.php.
    PHP;

$text = HEAD . "\n";
foreach (CLASSES as $class) {
    $source = file_get_contents(__DIR__ . "/src/$class.php");
    $start = "<?php\n\ndeclare(strict_types=1);\n\nnamespace Taskbus;\n";
    if (!str_starts_with($source, $start)) {
        fwrite(STDERR, "src/$class.php: does not begin as the others do\n");
        exit(1);
    }
    $text .= substr($source, strlen($start));
}
file_put_contents($argv[1] ?? __DIR__ . '/taskbus.php', $text);
