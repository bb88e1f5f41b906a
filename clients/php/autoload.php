<?php

/** Finds the classes of Taskbus\ as Composer would (PSR-4), where there is no Composer. */

declare(strict_types=1);

spl_autoload_register(static function (string $class): void {
    if (!str_starts_with($class, 'Taskbus\\')) {
        return;
    }
    $file = __DIR__ . '/src/' . strtr(substr($class, 8), '\\', '/') . '.php';
    if (is_file($file)) {
        require $file;
    }
});
